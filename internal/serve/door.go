package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/probe"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
)

// gatePart is the gate record in a checkpoint, made of its weights.
const gatePart = "gate.json"

// door keeps the standard that islands are compared with: the record of the newest
// checkpoint that has one, before of sharpened or given first weights. It computes with the
// engine that measures the validation loss, when that has time.
type door struct {
	op     *opened
	engine *evaluator

	mu        sync.Mutex
	news      *sync.Cond           // of mu: recording has ended
	now       *standard            // nil: not made yet
	asked     map[uint64]*question // by incarnation, until it has answered
	recording uint64               // incarnation that makes the first record of a model that is not ours; 0: none
	makers    []uint64             // incarnations of such a model that can make further ones
}

// standard is a record, ready to be sent.
type standard struct {
	record     gate.Record
	payload    []byte
	checkpoint uint64               // whose weights; 0: of none
	weights    []float32            // of no checkpoint, and not derived from the seed
	own        map[string]*gate.Own // what number formats cost, as far as it was asked; guarded by door.mu
}

// question is what one island was asked. Weights are nil where every host can derive them.
type question struct {
	*standard
	weights []float32
	answers []*gate.Record  // by host; nil: it has not answered
	made    chan noted      // takes the answer as a checkpoint's record; nil: it is an island's that joins
	session *transport.Peer // on which it was asked for that
}

// What judge says in place of a verdict.
var (
	// errUnfinished: other hosts of the island have yet to answer.
	errUnfinished = errors.New("not every host has answered")
	// errUnasked: nothing, or nothing more, is to be known of it.
	errUnasked = errors.New("it answers and was not asked")
	// errNoProbe: its trainer has nothing that could compute one.
	errNoProbe = errors.New("it has no probe")
	// errRecorded: nobody has computed the model before; the answer is the record from now on.
	errRecorded = errors.New("its answer is the record that later islands are compared with")
)

func newDoor(op *opened, e *evaluator) *door {
	d := &door{op: op, engine: e, asked: map[uint64]*question{}}
	d.news = sync.NewCond(&d.mu)
	return d
}

// present gives the run's weights as they are.
type present func(context.Context) ([]float32, error)

// ask gives the question to an island of so many hosts. Current gives the run's weights.
func (d *door) ask(ctx context.Context, incarnation uint64, hosts int, current present) (*question, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	find := d.ours
	if d.op.run.Model.Foreign() {
		find = func(ctx context.Context, current present) (*question, error) {
			return d.foreign(ctx, incarnation, current)
		}
	}
	q, err := find(ctx, current)
	if err != nil {
		return nil, err
	}
	q.answers = make([]*gate.Record, hosts)
	d.asked[incarnation] = q
	return q, nil
}

// ours is the question of a model that the engine here computes; mu is held.
func (d *door) ours(ctx context.Context, current present) (*question, error) {
	if d.now == nil {
		if err := d.begin(ctx, current); err != nil {
			return nil, err
		}
	}
	if d.now.checkpoint > 0 {
		if weights, err := d.read(ctx, d.now.checkpoint); err == nil {
			return &question{standard: d.now, weights: weights}, nil
		}
		if err := d.first(ctx, current); err != nil { // pruned or damaged: there is always another standard
			return nil, err
		}
	}
	return &question{standard: d.now, weights: d.now.weights}, nil
}

// begin takes the record of the newest checkpoint, or the run's first one; mu is held.
func (d *door) begin(ctx context.Context, current present) error {
	record, number, err := d.saved(ctx)
	if err != nil {
		return err
	}
	if record == nil {
		return d.first(ctx, current)
	}
	return d.take(*record, number)
}

// first makes the record that is not of a checkpoint: of sharpened first weights, or where
// the run began with trained ones of those that it has now, which matter as they are. They are
// kept until a checkpoint takes their place. mu is held.
func (d *door) first(ctx context.Context, current present) (err error) {
	fill, kind, weights := d.sharpen, gate.Sharpened, []float32(nil)
	if d.op.run.Model.From != "" {
		if weights, err = current(ctx); err != nil {
			return err
		}
		fill, kind = func(params []float32) { copy(params, weights) }, gate.Sent
	}
	made, err := d.made(fill, kind)
	if err == nil {
		err = d.take(made, 0)
	}
	if err != nil {
		return fmt.Errorf("making the gate record: %w", err)
	}
	d.now.weights = weights
	return nil
}

// take makes a record the standard; mu is held.
func (d *door) take(r gate.Record, checkpoint uint64) error {
	payload, err := r.Encode()
	if err != nil {
		return err
	}
	d.now = &standard{record: r, payload: payload, checkpoint: checkpoint, own: map[string]*gate.Own{}}
	for format, own := range r.Own {
		d.now.own[format] = &own
	}
	return nil
}

// saved is the record in the newest checkpoint; nil: there is none.
func (d *door) saved(ctx context.Context) (*gate.Record, uint64, error) {
	c, _, err := store.Newest(ctx, d.op.store)
	if errors.Is(err, store.ErrNoCheckpoint) || err == nil && !c.Has(gatePart) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var data json.RawMessage
	if err := c.JSON(ctx, gatePart, &data); err != nil {
		return nil, 0, err
	}
	r, err := gate.Decode(data)
	if err != nil {
		return nil, 0, fmt.Errorf("%s/%s: %w", c.Path(), gatePart, err)
	}
	return &r, c.Number(), nil
}

// read gives the weights of a checkpoint.
func (d *door) read(ctx context.Context, checkpoint uint64) ([]float32, error) {
	c, err := store.Load(ctx, d.op.store, checkpoint)
	if err != nil {
		return nil, err
	}
	flat := make([]float32, d.op.run.Size())
	return flat, readFlat(ctx, c, ModelPart, d.op.run.Table(), flat)
}

// made is the record of the weights that fill puts into an engine.
func (d *door) made(fill func(params []float32), weights string) (r gate.Record, err error) {
	err = d.lend(func(eng *engine.Engine) error {
		fill(eng.Params())
		r, err = probe.Make(eng, nil, d.op.run.Seed, d.probe(), weights)
		return err
	})
	return r, err
}

// lend gives an engine to use: the one that measures the validation loss, or one for the
// occasion where nothing is measured here.
func (d *door) lend(use func(*engine.Engine) error) error {
	if d.engine != nil {
		return d.engine.lend(use)
	}
	eng, err := engine.New(d.op.run.Model.Config, engine.Options{Threads: machine.CPUs(), Kernel: d.op.kernel})
	if err != nil {
		return err
	}
	defer eng.Close()
	return use(eng)
}

func (d *door) sharpen(params []float32) {
	engine.InitParams(d.op.run.Model.Config, d.op.run.Seed, params)
	gate.Sharpen(d.op.run.Model.Config, d.op.run.Seed, params)
}

func (d *door) probe() gate.Probe {
	sequence, boundaries := d.op.run.Train.SequenceTokens, d.op.run.Train.DocumentBoundaries
	if d.op.run.Data.Own { // a sample is a token there, and documents are the islands' affair
		sequence, boundaries = gate.LongestSequence, false
	}
	return gate.NewProbe(d.op.run.Seed, d.op.run.Model.Vocab, sequence, boundaries, corpus.EndOfDocument)
}

// ofCheckpoint makes the record of weights that are about to be saved.
func (d *door) ofCheckpoint(params []float32) (gate.Record, error) {
	r, err := d.made(func(p []float32) { copy(p, params) }, gate.Sent)
	if err == nil {
		_, err = r.Encode()
	}
	return r, err
}

// saveAs makes the record of a checkpoint that is whole now the standard.
func (d *door) saveAs(r gate.Record, checkpoint uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.take(r, checkpoint)
}

// judge compares an island's answer with what it was asked, once all its hosts have given
// theirs. With an error there is no more in the verdict than the number format.
func (d *door) judge(ctx context.Context, incarnation uint64, part int, m transport.Up) (v gate.Verdict, checkpoint uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.asked[incarnation]
	if q == nil {
		return v, 0, errUnasked
	}
	a, err := q.whole(part, m)
	if errors.Is(err, errUnfinished) || errors.Is(err, errUnasked) {
		return v, q.checkpoint, err
	}
	defer d.drop(incarnation)
	if err != nil {
		return v, q.checkpoint, err
	}
	v.Declared = a.Number
	if q.record.Blank() {
		if err := d.recorded(ctx, a, q.weights); err != nil {
			return v, 0, err
		}
		d.makers = append(d.makers, incarnation)
		return v, 0, errRecorded
	}
	own, err := d.cost(q, a.Number)
	if err != nil {
		return v, q.checkpoint, err
	}
	v, err = gate.Judge(q.record, a, own)
	if v.Passed && d.op.run.Model.Foreign() {
		d.makers = append(d.makers, incarnation)
	}
	return v, q.checkpoint, err
}

// cost is what a number format costs the native engine on the probe of a question; it is
// worked out when somebody first declares it, and mu is held.
func (d *door) cost(q *question, format string) (*gate.Own, error) {
	if own, known := q.own[format]; known || format == gate.FP32 {
		return own, nil
	}
	profile, err := numeric.Find(format)
	if err == nil && d.op.run.Model.Foreign() {
		return nil, nil // fixed bounds stand in
	}
	if err != nil {
		return nil, fmt.Errorf("it declares number format %q, which has no bounds here", format)
	}
	var own gate.Own
	err = d.lend(func(eng *engine.Engine) error {
		if q.weights == nil {
			d.sharpen(eng.Params())
		} else {
			copy(eng.Params(), q.weights)
		}
		own, err = probe.Own(eng, d.op.kernel, machine.CPUs(), profile, q.record)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("measuring what %s costs: %w", format, err)
	}
	q.own[format] = &own
	return &own, nil
}

// forget drops an island that will not answer.
func (d *door) forget(incarnation uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if q := d.asked[incarnation]; q != nil && q.made != nil {
		q.made <- noted{err: errors.New("it is gone")}
	}
	d.drop(incarnation)
	d.retire(incarnation)
}

// drop ends a question; mu is held.
func (d *door) drop(incarnation uint64) {
	delete(d.asked, incarnation)
	if d.recording == incarnation {
		d.recording = 0
		d.news.Broadcast()
	}
}

// answerBytes is the most that an island's answer takes: a line for every tensor, a
// number for every choice, and tokens.
func (d *door) answerBytes() int64 {
	cfg, inputs := d.op.run.Model.Config, 0
	if !d.op.run.Model.Foreign() { // of one that is not ours choices are not asked for
		inputs = d.probe().Inputs()
	}
	choices := float64(inputs) * float64(cfg.TopK) * float64(cfg.Layers)
	return int64(min(math.Ceil(1<<20+512*float64(len(d.op.run.Table()))+12*choices), gate.MaxBytes))
}
