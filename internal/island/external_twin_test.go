package island

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/spike"
	"github.com/mistura-project/mistura/internal/wire"
)

// afar is a learner of one fragment whose trainer is ranks beyond a socket.
type afar struct {
	t       *rapid.T
	l       *Learner
	f       *exchange
	x       *external
	trainer *attachtest.Trainer
	samples uint64
}

// step lets the trainer make a step, with whatever was ordered before it.
func (a *afar) step(rate float64) {
	a.samples++
	t := &task{samples: []uint64{a.samples}, tokens: 1, rate: rate, judge: func(float64, float64) spike.Decision { return spike.Decision{} }}
	done := a.x.begin(t)
	for {
		select {
		case o := <-done:
			if o.err != nil || !o.applied {
				a.t.Fatalf("%+v", o)
			}
			return
		case f := <-a.x.asides.events:
			f()
		}
	}
}

// until takes events until something has come true.
func (a *afar) until(done func() bool) {
	for !done() {
		(<-a.x.asides.events)()
	}
}

// settle has everything done that was ordered, and changes nothing.
func (a *afar) settle() {
	a.step(0)
	a.until(func() bool { return a.f.flight == nil || a.f.flight.payload != nil })
}

// whole gathers what the ranks hold, and demands that replicas agree.
func (a *afar) whole(size int) []float32 {
	out := make([]float32, size)
	from := make([]bool, size)
	for _, r := range a.trainer.Ranks {
		p := r.Hello.Pieces[0]
		at := p.Offset[0] * 2
		for i, x := range r.Weights[0] {
			if from[at+i] && !sameBits(out[at+i:at+i+1], []float32{x}) {
				a.t.Fatalf("replicas differ at %d", at+i)
			}
			out[at+i], from[at+i] = x, true
		}
	}
	return out
}

func newAfar(t *rapid.T, base *Learner, table []model.Tensor, world int, layout attachtest.Layout) (*afar, func()) {
	dir, err := os.MkdirTemp("", "x")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	life, cancel := context.WithCancelCause(context.Background())
	listening, err := attach.Listen(attach.Options{Path: path, Version: "test", Logger: slog.New(slog.DiscardHandler), Lost: cancel})
	if err != nil {
		t.Fatal(err)
	}
	size := table[0].Size()
	f := &exchange{
		Fragment: fragment.Fragment{Tensors: table, Sizes: []int{size}, Size: size},
		anchor:   make([]float32, size), sentExperts: make([]int64, len(base.expert)),
	}
	a := &afar{t: t, f: f}
	joined := make(chan *attachtest.Trainer, 1)
	trained := make(chan error, 1)
	go func() {
		hellos := attachtest.Hellos([]attachtest.Tensor{{Name: table[0].Name, Shape: table[0].Shape}}, world, layout)
		trainer, err := attachtest.Join(path, patience, hellos...)
		joined <- trainer
		if err == nil {
			trainer.Tokens = 1
			err = trainer.Run(nil)
			trainer.Close()
		}
		trained <- err
	}()
	c := &crew{Crew: listening}
	if _, err := c.meet(life); err != nil {
		t.Fatal(err)
	}
	h, err := newHolding(life, c.ranks, table, []fragment.Fragment{f.Fragment})
	if err != nil {
		t.Fatal(err)
	}
	if c.welcomes, err = h.share(attach.Welcome{Protocol: attach.Protocol}); err != nil {
		t.Fatal(err)
	}
	run := base.run
	run.Train.SequenceTokens = 1
	a.x = &external{run: run, crew: listening, holding: h, asides: newAsides(life, true), log: slog.New(slog.DiscardHandler), trained: map[int]bool{}}
	a.x.gathered = func(_ int, sequence uint64) {
		fl := f.flight
		if fl == nil || f.sequence != sequence {
			return
		}
		var payload []byte
		a.x.asides.do(f, func() {
			h.collect(0, fl.sent)
			payload = fl.encode()
		}, func() { fl.complete(payload) })
	}
	if err := c.welcome(life, false, 0, a.x.hear); err != nil {
		t.Fatal(err)
	}
	a.trainer = <-joined
	a.l = &Learner{run: base.run, trainer: a.x, fragments: []*exchange{f}, expert: make([]int64, len(base.expert))}
	return a, func() {
		if err := a.x.end(life, "the test is over"); err != nil {
			t.Error(err)
		}
		if err := <-trained; err != nil {
			t.Error(err)
		}
		cancel(nil)
		a.x.asides.wg.Wait()
		listening.Close()
		os.RemoveAll(dir)
	}
}

// Contributions, verdicts and seeds in any order, with orders that wait for the trainer and
// values that wait in line, leave the ranks of any layout and the twin with the same bits.
func TestExternalExchangeAgainstTheTwin(t *testing.T) {
	run, data, _ := tiny(t, nil)
	base := seeded(t, run, data)
	table := []model.Tensor{{Name: "x", Shape: []int{5, 2}, Kind: model.Norm}}
	whole := attach.Piece{Name: "x", Offset: []int{0, 0}, Extent: []int{5, 2}}
	rapid.Check(t, func(t *rapid.T) {
		const size = 10
		world := rapid.IntRange(1, 3).Draw(t, "world")
		split := attachtest.Layout(attachtest.Rows)
		if rapid.Bool().Draw(t, "replicated") {
			split = attachtest.Replicated
		}
		a, end := newAfar(t, base, table, world, split)
		defer end()
		l, f := a.l, a.f
		w := &twin{theta: make([]float32, size), anchor: make([]float32, size), sent: make([]float32, size)}
		value := func(t *rapid.T) []float32 {
			return rapid.SliceOfN(rapid.Float32Range(-100, 100), size, size).Draw(t, "value")
		}
		seed := func(t *rapid.T) {
			v, version, stamp := value(t), w.version+1, rapid.Int64Range(0, 5000).Draw(t, "stamp")
			if err := l.seed(0, version, stamp, v); err != nil {
				t.Fatal(err)
			}
			w.seed(version, stamp, slices.Clone(v))
			for i := range v {
				v[i] = 1e9 // the value is not kept
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"train": func(*rapid.T) {
				a.step(0.25)
				attachtest.Step(whole, w.theta, a.samples, 0.25)
				l.step, l.position, w.at = l.step+1, l.position+4, w.at+4
			},
			"contribute": func(t *rapid.T) {
				only(t, !w.under)
				if _, err := l.contribute(0, true); err != nil {
					t.Fatal(err)
				}
				w.send()
			},
			"seed": seed,
			"answered": func(t *rapid.T) {
				only(t, w.under)
				a.settle()
				v, version, stamp := value(t), w.version+uint64(rapid.IntRange(1, 3).Draw(t, "ahead")), w.stamp+rapid.Int64Range(0, 500).Draw(t, "stamp")
				if rapid.Bool().Draw(t, "alone") { // merged as it was sent: not a bit moves (D5)
					v = slices.Clone(w.sent)
				}
				answer := &verdict{ruling: wire.Ruling_MERGED, version: version, stamp: stamp, value: v}
				f.flight.verdict = answer
				a.x.asides.do(f, func() { a.x.offer(f) }, func() { answer.ready = true })
				if rapid.IntRange(0, 3).Draw(t, "meanwhile") == 0 {
					seed(t)
					answer.version, version = w.version+1, w.version+1
				}
				a.until(func() bool { return answer.ready })
				l.adopt(0)
				w.adopt(version, stamp, v)
			},
			"compare": func(t *rapid.T) {
				a.settle()
				if got := a.whole(size); !slices.Equal(got, w.theta) || !slices.Equal(f.anchor, w.anchor) || f.version != w.version || (f.flight != nil) != w.under {
					t.Fatalf("weights %v, anchor %v, version %d; want %v, %v, %d", got, f.anchor, f.version, w.theta, w.anchor, w.version)
				}
				if f.flight != nil && !slices.Equal(f.flight.sent, w.sent) {
					t.Fatalf("sent %v, want %v", f.flight.sent, w.sent)
				}
			},
		})
		a.settle()
	})
}
