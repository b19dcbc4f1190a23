package serve

import (
	"strings"
	"testing"
)

// Danger: who may store one thing stores another one, more of it, or the same again, and
// fills the disk of the run.
func TestOnlyWhatWasAskedForIsTaken(t *testing.T) {
	var a askedFor
	begin := func(incarnation uint64, object, refusal string) func(bool) {
		t.Helper()
		done, why := a.begin(incarnation, object)
		if (why == "") != (refusal == "") || !strings.Contains(why, refusal) {
			t.Errorf("%s of %d: %q, want %q", object, incarnation, why, refusal)
		}
		return done
	}
	begin(1, "x", "is not what the run waits for")
	a.ask(1, "x", "y")
	begin(2, "x", "is not what the run waits for")
	done := begin(1, "x", "")
	begin(1, "x", "is coming in already")
	done(false)
	begin(1, "x", "")(true)
	begin(1, "x", "is not what the run waits for")
	late := begin(1, "y", "")
	a.ask(1, "y")
	late(true) // of before: the new one is still to come
	begin(1, "y", "")
	a.forget(1)
	begin(1, "y", "is not what the run waits for")
}
