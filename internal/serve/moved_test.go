package serve_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
)

// notes are the notes of a run so far, one a line.
func notes(c *trial) string {
	var b strings.Builder
	for _, n := range recorded[ledger.Note](c) {
		b.WriteString(n.Text + "\n")
	}
	return b.String()
}

// restoredRecords are those of an era's tape.
func restoredRecords(t *testing.T, dir string, era int) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for _, raw := range tapes(t, dir)[era-1].Coordinator {
		var r struct {
			Kind   string            `json:"kind"`
			Island string            `json:"island"`
			Slots  []serve.SavedSlot `json:"slots"`
		}
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		if r.Kind != "restored" {
			continue
		}
		out[r.Island] = map[string]string{}
		for _, s := range r.Slots {
			out[r.Island][s.Slot] = s.Digest
		}
	}
	return out
}

// newestMeta is what the newest checkpoint says of itself.
func newestMeta(t *testing.T, dir string) serve.Meta {
	t.Helper()
	var meta serve.Meta
	if err := newestCheckpoint(t, dir).Meta(&meta); err != nil {
		t.Fatal(err)
	}
	return meta
}

// A resume says what was moved to what; each island's weights and moments are gathered anew
// and are, by their digests, those of the checkpoint.
func TestResumeComparesWhatWasMoved(t *testing.T) {
	t.Parallel()
	paths := []string{text(t)}
	with := func(islands ...runfile.Island) runfile.Run {
		return tiny(t, func(run *runfile.Run) { run.Data.Paths, run.Islands = paths, islands })
	}
	dir, _ := stopped(t, with(runfile.Island{Name: "a", Pace: 1}, runfile.Island{Name: "b", Pace: 0.5}), 30)
	meta := newestMeta(t, dir)
	c := begin(t, dir, with(runfile.Island{Name: "a", Pace: 0.5}, runfile.Island{Name: "b", Pace: 1}), true, nil)
	c.finish()
	for _, want := range []string{
		"layout: a: native; b: native, pace 0.5 → a: native, pace 0.5; b: native\n",
		"island a: native → native, pace 0.5; gathered anew, its state is the saved one: ",
	} {
		if !strings.Contains(notes(c), want) {
			t.Errorf("nothing says %q in\n%s", want, notes(c))
		}
	}
	records := restoredRecords(t, dir, 2)
	for _, name := range []string{"a", "b"} {
		saved := meta.Islands[name].Slots
		if len(saved) == 0 && name == "b" {
			continue // it was not there yet when the run was stopped
		}
		if len(saved) != 3 || records[name]["moment2"] == "" {
			t.Fatalf("island %s: saved %v, restored %v", name, saved, records[name])
		}
		for _, s := range saved {
			if records[name][s.Slot] == "" { // the others have moved the model on since it captured its state
				if !strings.Contains(notes(c), "island "+name+": weights of ") {
					t.Errorf("island %s: nothing is said of its %s", name, s.Slot)
				}
			} else if records[name][s.Slot] != s.Digest {
				t.Errorf("island %s: %s restored with %s, saved with %s", name, s.Slot, records[name][s.Slot], s.Digest)
			}
		}
	}
}

// Case B8: four islands have trained some of the samples, two go on: every sample is
// trained once, and who is not there any more is named.
func TestB8FourIslandsBecomeTwo(t *testing.T) {
	t.Parallel()
	paths := []string{text(t)}
	with := func(n int) runfile.Run {
		return tiny(t, func(run *runfile.Run) { run.Data.Paths, run.Islands = paths, islands(n) })
	}
	dir, _ := stopped(t, with(4), 20)
	c := begin(t, dir, with(2), true, nil)
	c.finish() // the audit counts every sample once
	if !strings.Contains(notes(c), "not in the run any more, their samples that are not in the model are trained again: c, d\n") {
		t.Errorf("it says\n%s", notes(c))
	}
}

// An island that joins in mid-run takes the moments of the newest checkpoint; one whose
// run says zero does not.
func TestJoinerTakesMomentsOfTheCheckpoint(t *testing.T) {
	t.Parallel()
	paths := []string{text(t)}
	for moments, want := range map[string]string{
		runfile.PeerMoments: "island c joins with the moments of checkpoints/", runfile.ZeroMoments: "",
	} {
		with := func(n int) runfile.Run {
			return tiny(t, func(run *runfile.Run) {
				run.Data.Paths, run.Islands, run.Exchange.JoinerMoments = paths, islands(n), moments
			})
		}
		dir, _ := stopped(t, with(2), 30)
		c := begin(t, dir, with(3), true, nil)
		c.finish()
		if said := strings.Contains(notes(c), "joins with"); said != (want != "") || !strings.Contains(notes(c), want) {
			t.Errorf("%s: it says\n%s", moments, notes(c))
		}
	}
}
