package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// tickEvery is how often time passes for the machines.
const tickEvery = 250 * time.Millisecond

// host drives the two machines. Its loop is the only goroutine that steps them.
type host struct {
	*opened
	opts  Options
	log   *slog.Logger
	inbox chan func()
	ended chan struct{} // closed when the loop is over

	coordFX *queue // carries out the coordinator's effects
	syncFX  *queue // carries out the syncer's effects
	ctx     context.Context
	cancel  context.CancelFunc

	server   *transport.Server
	crew     crew
	arrivals arrivals
	parties  *parties
	traffic  traffic
	asked    askedFor
	told     map[uint64]bool                   // incarnations whose restored state is on the tape
	awaited  map[uint64]map[int]*wire.Restored // what hosts of an incarnation have restored, until all have told
	ahead    map[uint64]map[int]*wire.Stored   // what further hosts have stored before the first has captured
	copied   *cutState                         // of the checkpoint under way, until its record is on the tape

	evaluator *evaluator
	asker     asker
	door      *door
	asking    sync.WaitGroup // at the gate
	emitMu    sync.Mutex
	ledger    *ledger.Status

	reasons map[string]string // last one said by each machine: only changes are logged
	tokens  int64             // last Consumed event
	steps   map[uint64]uint64 // last step reported by incarnation
	result  *coord.Done
	fatal   error

	clock  clock // of the machines; the loop's own
	paused int   // tapes that wait for the store; guarded by emitMu
}

// now is the machines' time.
func (h *host) now() time.Time { return h.clock.at(time.Now()) }

// post runs f in the loop.
func (h *host) post(f func()) {
	select {
	case h.inbox <- f:
	case <-h.ended:
	}
}

// loop runs until the coordinator is done, ctx ends or something is beyond repair.
func (h *host) loop(ctx context.Context) error {
	defer close(h.ended)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	interrupt := h.opts.Interrupt
	h.clock.tick(time.Now())
	h.decide(coord.Start{})
	for h.result == nil && h.fatal == nil {
		select {
		case f := <-h.inbox:
			f()
		case <-tick.C:
			if stall := h.clock.tick(time.Now()); stall > 0 {
				h.log.Warn("stalled", "seconds", stall.Seconds())
			}
			for _, m := range h.traffic.take() {
				h.decide(m)
			}
			h.decide(coord.Tick{})
			h.exchange(syncer.Tick{})
		case <-interrupt:
			interrupt = nil
			h.decide(coord.Interrupt{})
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return h.fatal
}

// decide steps the coordinator and queues its effects.
func (h *host) decide(in coord.Input) {
	effects, reason := h.coord.Step(in, h.now())
	h.explain("coordinator", reason)
	for _, e := range effects {
		h.coordFX.push(func() { h.coordinate(e) })
	}
	if tokens := h.consumed(); tokens != h.tokens {
		h.tokens = tokens
		h.emit(ledger.Consumed{At: time.Now(), Tokens: tokens})
		h.evaluator.due(h, tokens)
		h.asker.due(h, tokens)
	}
}

// exchange steps the syncer and queues its effects.
func (h *host) exchange(in syncer.Input) {
	effects, reason := h.sync.Step(in, h.now())
	h.explain("syncer", reason)
	for _, e := range effects {
		h.syncFX.push(func() { h.synchronise(e) })
	}
}

// explain logs a reason when it changes.
func (h *host) explain(who, reason string) {
	if reason != "" && h.reasons[who] != reason {
		h.reasons[who] = reason
		h.log.Info("decided", "by", who, "reason", reason)
	}
}

func (h *host) emit(e ledger.Event) {
	h.emitMu.Lock()
	defer h.emitMu.Unlock()
	h.ledger.Apply(e)
	if h.opts.Emit != nil {
		h.opts.Emit(e)
	}
}

// fail ends the run: something happened that no retry mends.
func (h *host) fail(err error) {
	h.post(func() {
		if h.fatal == nil {
			h.fatal = err
		}
	})
}

// append puts records on a tape, trying again for as long as the store is out: a
// decision that is not on the tape does not count. It reports false when another
// writer has the sequence or the run is being stopped.
func (h *host) append(seq *store.Sequence, records ...any) bool {
	paused := false
	for {
		_, err := seq.Append(h.ctx, records...)
		switch {
		case err == nil:
			if paused {
				h.pause(-1, "")
			}
			return true
		case errors.Is(err, store.ErrTaken):
			h.fail(fmt.Errorf("another coordinator has taken over this run: %w", err))
			return false
		case h.ctx.Err() != nil:
			return false
		}
		if !paused {
			paused = true
			h.pause(+1, err.Error())
		}
		select {
		case <-h.ctx.Done():
			return false
		case <-time.After(h.opts.retry):
		}
	}
}

// pause tells when the first tape begins to wait for the store and when the last
// one has stopped waiting.
func (h *host) pause(change int, reason string) {
	h.emitMu.Lock()
	before := h.paused
	h.paused += change
	after := h.paused
	h.emitMu.Unlock()
	if (before == 0) != (after == 0) {
		h.emit(ledger.StorePaused{At: time.Now(), Reason: reason})
	}
}
