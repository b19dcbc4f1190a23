package serve

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
)

// The validation loss is the mean over target tokens: a model that knows nothing is at
// ln 256, although every fourth token ends a document and does not count (E8).
func TestValidationLossIsOfTargetTokens(t *testing.T) {
	text := filepath.Join(t.TempDir(), "numbers")
	if err := os.Mkdir(text, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if err := os.WriteFile(filepath.Join(text, fmt.Sprint(i)), []byte(fmt.Sprintf("%03d", i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run, err := runfile.Default().WithModel("ling-tiny")
	if err != nil {
		t.Fatal(err)
	}
	run.Train.SequenceTokens = 12
	set, err := corpus.Build(t.Context(), corpus.Spec{Paths: []string{text}, ValidShare: 0.3, Seq: 12}, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	e, err := newEvaluator(&opened{run: run, corpus: set})
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	params := make([]float32, run.Model.Size())
	if loss, err := e.final(params); err != nil || math.Abs(loss-math.Log(256)) > 1e-6 {
		t.Errorf("the loss is %v (%v), want ln 256", loss, err)
	}
	// What a document ends with is a target, what the next one begins with is not: a
	// model that only ever expects the end, by a margin of Dim in its logits, is right
	// once in three.
	for _, tensor := range run.Table() {
		part := params[tensor.Offset : tensor.Offset+tensor.Size()]
		if tensor.Name == "head" {
			part = part[corpus.EndOfDocument*run.Model.Dim:]
		}
		if tensor.Layer < 0 {
			for i := range part {
				part[i] = 1
			}
		}
	}
	loss, err := e.final(params)
	if want := 2. / 3 * float64(run.Model.Dim); err != nil || math.Abs(loss-want) > 1e-3 {
		t.Errorf("the loss is %v (%v), want %v", loss, err, want)
	}
}

// E9: the run says how it treats documents that share a sample.
func TestDocumentsAreAnnounced(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, bytes.Repeat([]byte("some text, "), 50), 0o644); err != nil {
		t.Fatal(err)
	}
	for boundaries, want := range map[bool]string{true: "documents kept apart", false: "documents run on"} {
		o := Options{Run: runfile.Default()}
		o.Run.Train.DocumentBoundaries, o.Run.Train.SequenceTokens = boundaries, 12
		o.Run.Data = runfile.Data{Paths: []string{text}, ValidShare: 0.5}
		var said strings.Builder
		o.Emit = func(e ledger.Event) { fmt.Fprintln(&said, e) }
		set, err := openCorpus(t.Context(), o, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		set.Close()
		if !strings.Contains(said.String(), want) {
			t.Errorf("%q does not say %q", said.String(), want)
		}
	}
}
