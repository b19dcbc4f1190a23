package corpus

import (
	"testing"
	"time"
)

func TestBuildOfTheGoTree(t *testing.T) {
	start := time.Now()
	set, err := Build(t.Context(), Spec{ValidShare: 0.01, Seq: 128}, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	t.Logf("%+v in %v", set.Info, time.Since(start))
}
