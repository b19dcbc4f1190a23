package serve_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/runfile"
)

func folder(t testing.TB) string { return filepath.Join(t.TempDir(), "run") }

func TestTwoUnlikeIslandsTrainOneModel(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(r *runfile.Run) { waiting(r); r.Tokens *= 2; r.Islands[1].Numeric, r.Islands[1].Pace = "bf16", 0.1 })
	dir := folder(t)
	sum := begin(t, dir, run, false, together(unix.SIGCONT, 1, 2)).finish()
	loss, ok := sum.ValidLoss.Get()
	if !ok || math.IsNaN(loss) || !sum.ValidFinal {
		t.Fatalf("no validation loss of the finished model: %+v", sum)
	}
	if sum.Merges == 0 || sum.Checkpoint == nil || sum.Refused+sum.Dropped > 0 {
		t.Errorf("merges, checkpoint or rulings are amiss: %+v", sum)
	}
	if got := *sum.Islands[0].Numeric + ", " + *sum.Islands[1].Numeric; got != "fp32, emulated bf16" {
		t.Errorf("numeric: %s", got)
	}
	tape, err := os.ReadFile(filepath.Join(dir, "tape/era-0001/coord/0000000001.jsonl"))
	if err != nil || !strings.Contains(string(tape), `"numeric":{"slow":"emulated bf16"}`) {
		t.Errorf("the tape does not say that slow emulates: %v", err)
	}
	names := []string{sum.Islands[0].Name, sum.Islands[1].Name}
	if !slices.Equal(names, []string{"fast", "slow"}) || sum.Islands[0].Tokens <= sum.Islands[1].Tokens || sum.Islands[1].Tokens == 0 {
		t.Errorf("both islands were to train, the slow one less: %+v", sum.Islands)
	}
}
