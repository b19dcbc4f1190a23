package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/store"
)

// A model that is not ours nobody here can compute: the first island that has a probe makes
// the record that later ones are compared with. Record and weights lie in the run
// folder, for those who come later, also behind a resume. A checkpoint's record, which an
// island makes as well (standard.go), takes its place.
const (
	madeRecord  = "gate/record.json"
	madeWeights = "gate/weights.safetensors"
)

// probeVocab is what tokens of a probe of a model that is not ours are below: every
// vocabulary has as many.
const probeVocab = 256

// foreign is the question to an island of a model that is not ours. While an island is at
// it that may make the record, the next ones wait. Current gives the weights of the run as
// they are; mu is held.
func (d *door) foreign(ctx context.Context, incarnation uint64, current present) (*question, error) {
	stop := context.AfterFunc(ctx, func() {
		d.mu.Lock() // who looks at ctx below waits by then
		defer d.mu.Unlock()
		d.news.Broadcast()
	})
	defer stop()
	for d.now == nil && d.recording != 0 {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		d.news.Wait()
	}
	if q, err := d.known(ctx); q != nil || err != nil {
		return q, err
	}
	weights, err := current(ctx)
	if err != nil {
		return nil, err
	}
	blank := d.blank()
	payload, err := blank.Encode()
	d.recording = incarnation
	return &question{standard: &standard{record: blank, payload: payload}, weights: weights}, err
}

// blank is the record that asks for one.
func (d *door) blank() gate.Record {
	return gate.Record{
		Format: gate.Format, Seed: d.op.run.Seed, Weights: gate.Sent,
		Probe: gate.NewProbe(d.op.run.Seed, probeVocab, gate.LongestSequence, false, 0),
	}
}

// known is the question by a record that an island has made: of the newest checkpoint, or the
// first one where that has none or its weights cannot be read; nil: no island has. mu is held.
func (d *door) known(ctx context.Context) (*question, error) {
	if d.now == nil {
		if r, number, err := d.saved(ctx); err == nil && r != nil && d.fits(*r) == nil {
			if err := d.take(*r, number); err != nil {
				return nil, err
			}
		}
	}
	if d.now != nil && d.now.checkpoint > 0 {
		if weights, err := d.read(ctx, d.now.checkpoint); err == nil {
			return &question{standard: d.now, weights: weights}, nil
		}
		d.now = nil
	}
	if d.now == nil {
		if err := d.remembered(ctx); err != nil || d.now == nil {
			return nil, err
		}
	}
	weights, err := d.madeWith(ctx)
	return &question{standard: d.now, weights: weights}, err
}

// remembered takes the record that an island made before, if there is one; mu is held.
func (d *door) remembered(ctx context.Context) error {
	f, size, err := d.op.store.Open(ctx, madeRecord)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, 0, min(size, gate.MaxBytes+1)))
	if err != nil {
		return err
	}
	r, err := gate.Decode(data)
	if err == nil {
		err = d.fits(r)
	}
	if err != nil {
		return &fault.Input{Where: d.op.store.Location() + "/" + madeRecord, Problem: "cannot be used", Next: "delete it: the next island makes another one", Err: err}
	}
	return d.take(r, 0)
}

// madeWith gives the weights of that record.
func (d *door) madeWith(ctx context.Context) ([]float32, error) {
	f, size, err := d.op.store.Open(ctx, madeWeights)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := store.OpenSafetensors(f, size)
	if err != nil {
		return nil, err
	}
	flat := make([]float32, d.op.run.Size())
	return flat, r.ReadAll(tensorsOf(d.op.run.Table(), flat))
}

// recorded makes an island's answer the record that later ones are compared with; mu is
// held. The record is written last: what can be found is whole.
func (d *door) recorded(ctx context.Context, r gate.Record, weights []float32) error {
	if err := d.fits(r); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := store.PutTensors(ctx, d.op.store, madeWeights, tensorsOf(d.op.run.Table(), weights), nil); err != nil {
		return fmt.Errorf("keeping the weights of the probe: %w", err)
	}
	if err := d.op.replace(ctx, madeRecord, data); err != nil {
		return fmt.Errorf("keeping the gate record: %w", err)
	}
	return d.take(r, 0)
}

// fits says whether a record is of the run's model.
func (d *door) fits(r gate.Record) error {
	table := d.op.run.Table()
	if len(r.Tensors) != len(table) {
		return fmt.Errorf("gradients of %d tensors, the model has %d", len(r.Tensors), len(table))
	}
	for i, t := range table {
		if r.Tensors[i].Name != t.Name {
			return fmt.Errorf("a gradient of %q where the model has %q", r.Tensors[i].Name, t.Name)
		}
	}
	return nil
}
