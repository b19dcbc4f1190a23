package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// A plan is written whole or not at all, and never over what is there.
func TestPlansAreWrittenWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "run.yaml")
	n := newFile{flag: "--out", path: path}
	if err := n.writeNew([]byte("first")); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(dir, "link.yaml")
	if err := os.Symlink(filepath.Join(dir, "nothing"), nowhere); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{path: "is there already", nowhere: "is there already", dir: "is there already", filepath.Join(dir, "no", "run.yaml"): "cannot be written: no such file or directory"} {
		if err := (newFile{flag: "--out", path: path}).writeNew([]byte("second")); err == nil || exitCode(err) != exitInput || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "first" {
		t.Errorf("%v: %q", err, got)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("%v: %v", err, left)
	}
}

// A file without an end is not read for ever.
func TestFilesThatNobodyWrote(t *testing.T) {
	const endless = "/dev/zero"
	if _, err := os.Stat(endless); err != nil {
		t.Skip(err)
	}
	for _, args := range [][]string{
		{"plan", "--model", "ling-lite", "--tokens", "1B", "--fleet", endless}, {"plan", "--model", endless, "--tokens", "1B"}, {"plan", "--catalogue", endless},
		{"plan", "--efficiency", endless}, {"plan", "validate", endless}, {"model", endless}, {"chips", "--catalogue", endless},
	} {
		var out, said bytes.Buffer
		code := Main(Env{Args: append([]string{"mistura"}, args...), Stdout: &out, Stderr: &said})
		if code != exitInput || out.Len() > 0 || !strings.Contains(said.String(), "cannot be read: more than 64 MiB") {
			t.Errorf("%v: exit code %d\n%s%s", args, code, &out, &said)
		}
	}
}

// A long table says how far it is.
func TestLongTablesSayHowFarTheyAre(t *testing.T) {
	var said bytes.Buffer
	clock := time.Unix(0, 0)
	predict := counting(&said, 5000, func() time.Time { clock = clock.Add(time.Second); return clock }, func(published.Case) (plan.Step, error) { return plan.Step{}, nil })
	for range 7 {
		if _, err := predict(published.Case{}); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := said.String(), "predicted 2 of at most 5 000 runs\npredicted 5 of at most 5 000 runs\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A fastest plan without prices says so in words.
func TestPlanWithoutPricesSaysSo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(file, []byte("pools: [{name: a, chip: h800-80g-sxm, count: 16}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := wrote(t, "plan", "--model", "ling-lite", "--tokens", "1B", "--fleet", file, "--objective", "time")
	if !strings.Contains(text, "at a cost that is not known, MFU ") || !strings.Contains(text, "of 16 chips: a 16") {
		t.Error(text)
	}
}

// A plan that keeps a deadline in the middle of its range only says so, with one that is
// sure to.
func TestPlanSaysWhenItsRangeIsTooLong(t *testing.T) {
	p := madeUp()
	best := p.answer.Plans[0]
	for _, c := range []struct {
		deadline, budget float64
		want             string
	}{
		{best.Seconds.High, best.Cost.High, ""},
		{0, 0, ""},
		{best.Seconds.High - 1, 0, "beyond the deadline of 36.0 days; no plan below keeps that"},
		{0, best.Cost.High - 1, "beyond the budget of 5.52 M CNY; no plan below"},
		{best.Seconds.Mid, best.Cost.Mid, "beyond the deadline of 30.0 days and the budget of 4.60 M CNY; no plan"},
	} {
		p.question.Deadline, p.question.Budget = c.deadline, c.budget
		if got := p.risk(best); !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("%+v: %q", c, got)
		}
	}
	quick := best
	quick.Seconds.High = best.Seconds.Mid
	p.question.Deadline, p.question.Budget, p.answer.Front = best.Seconds.High-1, 0, append(p.answer.Front, quick)
	if got := p.risk(best); !strings.Contains(got, "the first plan below whose range keeps it takes 30.0 days (27.0–30.0), 4.60 M CNY") {
		t.Error(got)
	}
}

// A search that takes long says so.
func TestLongSearchesSaySo(t *testing.T) {
	var said bytes.Buffer
	ticks, begin := make(chan time.Time), time.Unix(0, 0)
	stop := searching(&said, ticks, begin)
	ticks <- begin.Add(3 * time.Second)
	ticks <- begin.Add(6 * time.Second)
	stop()
	if got := said.String(); !strings.HasPrefix(got, "searching for 3 s; fewer pools") || !strings.Contains(got, "\nsearching for 6 s; ") {
		t.Error(got)
	}
}

// Fleet files of Windows' editors are read, and garbage is not read for long.
func TestFleetFilesOfAllKinds(t *testing.T) {
	dir, good := t.TempDir(), "pools: [{name: a, chip: h800-80g-sxm, count: 16}]\n"
	for text, want := range map[string]string{
		"\ufeff" + good:                         "",
		strings.ReplaceAll(good, "\n", "\r\n"):  "",
		strings.Repeat("[", 100_000):            `fleet.yaml:1: has more than 1000 brackets open; close them`,
		"a:\n" + strings.Repeat("{a: ", 10_000): `fleet.yaml:2: has more than 1000 brackets open; close them`,
	} {
		file := filepath.Join(dir, "fleet.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, said bytes.Buffer
		code := Main(Env{Args: []string{"mistura", "plan", "--model", "ling-lite", "--tokens", "1B", "--objective", "time", "--fleet", file}, Stdout: &out, Stderr: &said})
		if (code == 0) != (want == "") || !strings.Contains(said.String(), want) {
			t.Errorf("%.20q: exit code %d, %s", text, code, &said)
		}
	}
}
