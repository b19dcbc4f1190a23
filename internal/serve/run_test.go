package serve_test

import (
	"math"
	"path/filepath"
	"slices"
	"testing"
)

func folder(t testing.TB) string { return filepath.Join(t.TempDir(), "run") }

func TestTwoUnlikeIslandsTrainOneModel(t *testing.T) {
	sum := begin(t, folder(t), tiny(t, nil), false, nil).finish()
	loss, ok := sum.ValidLoss.Get()
	if !ok || math.IsNaN(loss) || !sum.ValidFinal {
		t.Fatalf("no validation loss of the finished model: %+v", sum)
	}
	if sum.Merges == 0 || sum.Checkpoint == nil || sum.Refused+sum.Dropped > 0 {
		t.Errorf("merges, checkpoint or rulings are amiss: %+v", sum)
	}
	names := []string{sum.Islands[0].Name, sum.Islands[1].Name}
	if !slices.Equal(names, []string{"fast", "slow"}) || sum.Islands[0].Tokens <= sum.Islands[1].Tokens || sum.Islands[1].Tokens == 0 {
		t.Errorf("both islands were to train, the slow one less: %+v", sum.Islands)
	}
}
