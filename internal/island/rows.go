package island

import (
	"fmt"
	"sync"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/wire"
)

// rows reads the tokens of samples for a trainer that has no reader of its own. Ranks
// ask at the same time; the text is opened when the first one does.
type rows struct {
	run  runfile.Run
	open func() (*corpus.Set, error) // the run's tokens, wherever they are; may take its time

	once  sync.Once
	data  *corpus.Set
	order corpus.Order
	err   error
}

// rowsOf reads the tokens of the run that the island was welcomed to.
func (r *runner) rowsOf(w *wire.Welcome, join wire.Join) *rows {
	return &rows{run: r.run, open: func() (*corpus.Set, error) { return openData(r.asides.life, w, join, r.ownData) }}
}

// of gives the tokens of samples.
func (r *rows) of(samples []uint64) (*attach.Tokens, error) {
	t := r.run.Train
	width := t.SequenceTokens + 1
	if r.run.Data.Own {
		return nil, &fault.Input{Where: "rows", Problem: "islands of this run bring their own data", Next: "read them from there"}
	}
	if err := attach.FitsRows(len(samples), width); err != nil {
		return nil, &fault.Input{Where: "rows", Value: fmt.Sprint(len(samples)), Problem: err.Error(), Next: "ask for fewer at a time"}
	}
	r.once.Do(func() {
		if r.data, r.err = r.open(); r.err == nil {
			r.order = corpus.NewOrder(r.run.Seed, r.data.Train.Windows(t.SequenceTokens))
		}
	})
	if r.err != nil {
		return nil, r.err
	}
	flat := make([]int32, len(samples)*width)
	for i, s := range samples {
		if err := r.data.Train.Sample(r.order, s, t.SequenceTokens, flat[i*width:(i+1)*width]); err != nil {
			return nil, err
		}
	}
	var end *int32
	if t.DocumentBoundaries {
		end = new(int32(corpus.EndOfDocument))
	}
	return attach.TokensOf(flat, width, end), nil
}

// close ends the use of the text.
func (r *rows) close() {
	r.once.Do(func() {}) // nobody opens it any more
	if r.data != nil {
		r.data.Close()
	}
}
