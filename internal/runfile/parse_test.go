package runfile

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

var rewrite = flag.Bool("rewrite", false, "write the messages of bad run files anew")

// Each file below testdata/bad opens with the exact message that it must get.
func TestBadRunFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no bad run files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) { badRunFile(t, file) })
	}
}

const wantPrefix = "# want: "

func badRunFile(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Parse("run.yaml", data)
	if err == nil {
		_, err = r.Resolve()
	}
	if err == nil {
		t.Fatal("accepted")
	}
	if in := (*fault.Input)(nil); !errors.As(err, &in) {
		t.Errorf("%T is not bad input", err)
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	if *rewrite {
		if !strings.HasPrefix(first, wantPrefix) {
			rest = string(data)
			data = []byte(wantPrefix + "\n" + rest) // lines as they will be
			if r, err = Parse("run.yaml", data); err == nil {
				_, err = r.Resolve()
			}
		}
		if err := os.WriteFile(file, []byte(wantPrefix+err.Error()+"\n"+rest), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := strings.TrimPrefix(first, wantPrefix); err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestParseKeepsDefaultsOfWhatIsUnsaid(t *testing.T) {
	r, err := Parse("run.yaml", []byte("train:\n  accumulate: 4\nislands:\n  - name: only\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Train.Accumulate = 4
	want.Islands = []Island{{Name: "only", Pace: 1}}
	if string(r.Marshal()) != string(want.Marshal()) {
		t.Errorf("got\n%s\nwant\n%s", r.Marshal(), want.Marshal())
	}
}

// Wherever the page says tokens, 2k will do.
func TestTokensAreWrittenAlikeEverywhere(t *testing.T) {
	r, err := Parse("run.yaml", []byte("model:\n  routing_warmup_tokens: 2k\ntrain:\n  sequence_tokens: 1k\n  warmup_tokens: 3k\n"))
	if err != nil || r.Model.RoutingWarmupTokens != 2000 || r.Train.SequenceTokens != 1000 || r.Train.WarmupTokens != 3000 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"auto", "2kk", "x", "99999999999999999999", "1.5"} {
		if _, err := Parse("run.yaml", []byte("model:\n  routing_warmup_tokens: "+bad+"\n")); err == nil || !strings.Contains(err.Error(), "is not a number of tokens such as 400k") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestParseEmptyIsTheBuiltInRun(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "null\n", "train:\n"} {
		r, err := Parse("run.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if string(r.Marshal()) != string(Default().Marshal()) {
			t.Errorf("%q differs from the built-in run", text)
		}
	}
}

func TestModelIsPresetAndOverrides(t *testing.T) {
	r, err := Parse("run.yaml", []byte("model:\n  dim: 64\n  preset: ling-tiny\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := preset("ling-tiny")
	want.Dim = 64
	if !reflect.DeepEqual(r.Model, want) {
		t.Errorf("got %+v, want %+v", r.Model, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("tokens: 400k\nmodel:\n  preset: ling-tiny\n"))
	f.Add(Default().Marshal())
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse("run.yaml", data)
		if err == nil {
			r, err = r.Resolve()
		}
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("a message of several lines: %q", err)
			}
			return
		}
		again, err := Parse("again.yaml", r.Marshal())
		if err != nil {
			t.Fatalf("resolved run does not parse: %v\n%s", err, r.Marshal())
		}
		if string(again.Marshal()) != string(r.Marshal()) {
			t.Errorf("resolved run changes when parsed")
		}
	})
}
