package island

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/corpus"
)

// Rows that several ranks ask for at the same time are those that a native learner reads.
func TestRowsAreTheNativeLearners(t *testing.T) {
	run, _, dir := tiny(t, nil)
	r := &rows{run: run, open: at(dir)}
	defer r.close()
	data, err := corpus.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	seq := run.Train.SequenceTokens
	order := corpus.NewOrder(run.Seed, data.Train.Windows(seq))
	var wg sync.WaitGroup
	for rank := range uint64(4) {
		wg.Go(func() {
			samples := []uint64{rank, 1000 + rank, 7}
			got, err := r.of(samples)
			if err != nil || got.Count != 3 || got.Width != seq+1 || len(got.Tokens) != 4*3*(seq+1) {
				t.Errorf("got %+v, %v", got, err)
				return
			}
			if got.EndToken == nil || *got.EndToken != corpus.EndOfDocument {
				t.Errorf("the end of documents is %v", got.EndToken)
			}
			for i, s := range samples {
				want := make([]int32, seq+1)
				if err := data.Train.Sample(order, s, seq, want); err != nil {
					t.Error(err)
				}
				have := make([]int32, seq+1)
				for j := range have {
					have[j] = int32(binary.LittleEndian.Uint32(got.Tokens[4*(i*(seq+1)+j):]))
				}
				if !slices.Equal(have, want) {
					t.Errorf("sample %d: %v, want %v", s, have, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestRowsThatThereAreNot(t *testing.T) {
	run, _, dir := tiny(t, nil)
	run.Train.DocumentBoundaries = false
	r := &rows{run: run, open: at(dir)}
	defer r.close()
	if got, err := r.of([]uint64{1}); err != nil || got.EndToken != nil {
		t.Errorf("documents run on: %+v, %v", got, err)
	}
	if _, err := r.of(make([]uint64, 1<<20)); err == nil || !strings.Contains(err.Error(), "ask for fewer at a time") {
		t.Errorf("%v", err)
	}
	gone := &rows{run: run, open: at(t.TempDir())}
	defer gone.close()
	if _, err := gone.of([]uint64{1}); err == nil {
		t.Error("rows came from an empty folder")
	}
	own := run
	own.Data.Own = true
	if _, err := (&rows{run: own, open: at(dir)}).of([]uint64{1}); err == nil || !strings.Contains(err.Error(), "bring their own data") {
		t.Errorf("%v", err)
	}
}

// at opens the tokens of a folder.
func at(dir string) func() (*corpus.Set, error) {
	return func() (*corpus.Set, error) { return corpus.Open(dir) }
}
