package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// pastRun is the folder of a run whose coordinator is gone and has left these records behind the first one.
func pastRun(t *testing.T, saved bool, records ...any) string {
	t.Helper()
	dir := t.TempDir()
	run, err := runfile.Default().Resolve()
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0") // nobody listens there in a moment
	if err != nil {
		t.Fatal(err)
	}
	lis.Close()
	if saved {
		if err := saveTiny(dir, 3, nil); err != nil {
			t.Fatal(err)
		}
	}
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	seq, _, err := store.OpenSequence(context.Background(), st, "tape/era-0001/coord")
	if err == nil {
		_, err = seq.Append(context.Background(), append([]any{map[string]any{"kind": "era", "run_id": "4f1d", "era": 1, "run_yaml": string(run.Marshal())}}, records...)...)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, serve.CoordinatorName), fmt.Appendf(nil, `{"address": %q, "run_id": "4f1d"}`, lis.Addr()), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The danger: who comes back to a run that is over hears that nobody answers, and not whether it has finished.
func TestStatusOfARunThatIsOver(t *testing.T) {
	end := func(outcome, why string) any {
		return map[string]any{"kind": "end", "at": at(90), "outcome": outcome, "why": why}
	}
	passed := "passed"
	sum := ledger.Summary{
		Outcome: ledger.RunFinished, Reason: "every sample is in the model", RunID: "4f1d", Era: 1, Tokens: 1000, GoalTokens: 1000, ValidLoss: ledger.Known(1.75), ValidFinal: true,
		Islands: []ledger.IslandSummary{{Name: "rack1", Tokens: 600, Gate: &passed, GateReason: "computes the same model"}}, Tracked: true,
	}
	finished := map[string]any{"kind": "summary", "at": at(91), "summary": sum}
	for name, c := range map[string]struct {
		dir          string
		code         int
		says, stderr []string
	}{
		"finished": {pastRun(t, true, end("finished", "every sample is in the model"), finished), 0, []string{
			"run 4f1d, era 1, over since 2026-01-02 03:05:36 UTC\n", "finished in ", "1.00k of 1.00k tokens", "validation loss  1.750", "rack1", "600 tokens",
			"gate: island rack1 passed: computes the same model\n", filepath.Join("checkpoints", "00000003"),
		}, nil},
		"finished before the tape told more": {pastRun(t, true, end("finished", "every sample is in the model")), 0, []string{
			"over since 2026-01-02 03:05:35 UTC\n", "finished: every sample is in the model; ", " tokens are in checkpoint ",
		}, nil},
		"interrupted": {pastRun(t, true, end("interrupted", "interrupted by the user")), 2, []string{"interrupted: interrupted by the user; "}, []string{
			"is not under way: it was interrupted (interrupted by the user); go on with it by --resume ",
		}},
		"failed": {pastRun(t, false, end("failed", "no island is left")), 2, []string{"failed: no island is left; nothing is saved\n"}, []string{
			"is not under way: it failed: no island is left; nothing is saved to go on from: begin it anew",
		}},
		"killed": {pastRun(t, true), 2, []string{"run 4f1d, era 1\n", "unknown: no end is on the tape; "}, []string{
			"is not under way: its coordinator at 127.0.0.1:", " does not answer, and no end is on the tape; go on with it by --resume ",
		}},
	} {
		for _, flags := range []string{"", "--json"} {
			var out, bad bytes.Buffer
			code := Main(Env{Args: append([]string{"mistura", "status", c.dir}, strings.Fields(flags)...), Stdout: &out, Stderr: &bad})
			if code != c.code || strings.Count(bad.String(), "\n") > 1 {
				t.Errorf("%s: exit code %d, %s", name, code, &bad)
			}
			for _, want := range c.stderr {
				if !strings.Contains(bad.String(), want) {
					t.Errorf("%s: %q is not in %s", name, want, &bad)
				}
			}
			if flags == "" {
				for _, want := range c.says {
					if !strings.Contains(out.String(), want) {
						t.Errorf("%s: %q is not in\n%s", name, want, &out)
					}
				}
				continue
			}
			var got struct {
				Outcome    string
				RunID      string `json:"run_id"`
				Checkpoint *string
				Seconds    *float64 // of a run whose summary is not on the tape nobody knows it
			}
			if err := json.Unmarshal(out.Bytes(), &got); err != nil || strings.Count(out.String(), "\n") != 1 {
				t.Errorf("%s: %v\n%s", name, err, &out)
			}
			outcome, _, _ := strings.Cut(name, " ")
			if outcome == "killed" {
				outcome = "unknown"
			}
			if got.Outcome != outcome || got.RunID != "4f1d" || (got.Checkpoint == nil) != (name == "failed") || (got.Seconds != nil) != (name == "finished") {
				t.Errorf("%s: %s", name, &out)
			}
		}
	}
}

// A folder that is no run is refused as ever, also when it says who coordinates.
func TestStatusOfNoRun(t *testing.T) {
	dir := pastRun(t, false)
	if err := os.RemoveAll(filepath.Join(dir, "tape")); err != nil {
		t.Fatal(err)
	}
	for want, dir := range map[string]string{"holds no run that was started": t.TempDir(), "holds no run: there is no tape": dir} {
		var out, bad bytes.Buffer
		if code := Main(Env{Args: []string{"mistura", "status", dir}, Stdout: &out, Stderr: &bad}); code != exitInput || out.Len() > 0 || !strings.Contains(bad.String(), want) {
			t.Errorf("exit code %d, %s%s", code, &out, &bad)
		}
	}
}
