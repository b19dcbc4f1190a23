package serve

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// Errors of Train.
var (
	// ErrInterrupted: the run was stopped by its user, saved, and can be resumed.
	ErrInterrupted = errors.New("interrupted")
	// ErrRunFailed: the run ended without all of its tokens.
	ErrRunFailed = errors.New("the run failed")
)

// storeRetry is the pause before a store that failed or is full is tried again.
const storeRetry = 2 * time.Second

// claimPatience is how long a process that was killed may take to let its run folder go.
const claimPatience = 5 * time.Second

// dismissPatience is how long a dismissed island may take to end.
const dismissPatience = 5 * time.Second

// Options of Train.
type Options struct {
	Run         runfile.Run        // resolved
	Dir         string             // run folder
	Resume      bool               // go on from the newest whole checkpoint in Dir
	StartIsland []string           // program and arguments that start an island; its join string goes to stdin
	Emit        func(ledger.Event) // called one at a time; nil: nobody listens
	Interrupt   <-chan struct{}    // closed: finish the step, flush, save
	Outside     bool               // no island is started here: all come from outside, with join strings
	Listen      string             // host:port that other hosts reach this one by, over TLS; then islands may join from outside, too; empty: this host only
	Limits      authority.Token    // of the join string that is shown when the run begins
	GateOwn     bool               // islands that are started here are asked at the gate, too, although they compute the same bits
	Logger      *slog.Logger

	wrap  func(store.Store) store.Store // tests put faults in; nil: none
	claim time.Duration                 // for how long a run folder is tried that another process has; 0: see claimPatience
	retry time.Duration                 // pause before a store that failed or is full is tried again; 0: see storeRetry
}

// Train runs coordinator and syncer in this process and the islands as child
// processes, until every token is trained, the user interrupts or nothing can go
// on. It returns what the run did, also with ErrInterrupted and ErrRunFailed.
func Train(ctx context.Context, o Options) (ledger.Summary, error) {
	o.retry, o.claim = cmp.Or(o.retry, storeRetry), cmp.Or(o.claim, claimPatience)
	op, err := openUnlessInterrupted(ctx, o)
	if err != nil {
		return ledger.Summary{}, err
	}
	defer op.close()
	status, why := ledger.New(), ""
	for {
		h, err := newHost(ctx, op, o, status)
		if err != nil {
			return ledger.Summary{}, err
		}
		err = h.live(why)
		if err != nil || h.result.Outcome != coord.RolledBack {
			defer h.evaluator.close()
			return h.conclude(err)
		}
		h.evaluator.close()
		why = h.result.Why
		if op, err = op.rollBack(ctx); err != nil {
			h.emit(ledger.RunEnded{At: time.Now(), Outcome: ledger.RunFailed, Reason: err.Error()})
			return status.Summary(), err
		}
	}
}

// newHost is ready to live for one era.
func newHost(ctx context.Context, op *opened, o Options, status *ledger.Status) (*host, error) {
	h := &host{
		opened: op, opts: o, log: o.Logger, inbox: make(chan func(), 1024), ended: make(chan struct{}),
		crew: newCrew(), arrivals: arrivals{waiting: map[uint64]arrival{}}, told: map[uint64]bool{}, awaited: map[uint64]map[int]*wire.Restored{}, ahead: map[uint64]map[int]*wire.Stored{}, parties: newParties(op.run.Table(), op.bank.fragments), reasons: map[string]string{}, steps: map[uint64]uint64{}, ledger: status,
	}
	h.secret = cmp.Or(h.secret, randomName(16))
	h.ctx, h.cancel = context.WithCancel(ctx)
	h.asker = newAsker(op)
	var err error
	if h.evaluator, err = newEvaluator(op); err == nil {
		h.door = newDoor(op, h.evaluator)
		if err = h.listen(h.ctx); err != nil {
			h.evaluator.close()
		}
	}
	if err != nil {
		h.cancel()
		return nil, err
	}
	return h, nil
}

// live is one era, from its beginning to the end of everything that it started. Why
// says what the era before was rolled back for; empty when nothing was.
func (h *host) live(why string) error {
	h.coordFX, h.syncFX = newQueue(), newQueue()
	if why == "" {
		h.started()
	} else {
		h.rolledBack(why)
	}
	err := h.loop(h.ctx)
	h.cancel() // retries of the store end here
	h.coordFX.close()
	h.syncFX.close()
	if h.goesBack() {
		h.callBack()
	}
	h.disband(h.patienceFor(err))
	h.server.Close()
	h.saving.Wait()
	h.asking.Wait()
	h.evaluator.wait()
	return err
}

// goesBack: the era is over, and the run goes on in another one. Whoever asks knows that the loop has ended.
func (h *host) goesBack() bool {
	return h.result != nil && h.result.Outcome == coord.RolledBack
}

// openUnlessInterrupted gives up at the first interrupt: nothing is lost yet.
func openUnlessInterrupted(ctx context.Context, o Options) (*opened, error) {
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	opened := make(chan struct{})
	defer close(opened)
	go func() {
		select {
		case <-o.Interrupt:
			cancel()
		case <-opened:
		}
	}()
	op, err := open(opening, o)
	if err != nil && opening.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w before the run began", ErrInterrupted)
	}
	return op, err
}

// patienceFor: an orderly end lets islands end by themselves.
func (h *host) patienceFor(err error) time.Duration {
	if err != nil || h.result.Outcome == coord.RolledBack {
		return 0
	}
	return dismissPatience
}

// maxPayload is the largest fragment in bytes, or an answer to the gate.
func (h *host) maxPayload() int64 {
	most := 0
	for _, f := range h.bank.fragments {
		most = max(most, f.Size)
	}
	return max(4*int64(most), h.door.answerBytes())
}

// started tells the listeners what begins.
func (h *host) started() {
	params, active := h.parameters()
	e := ledger.RunStarted{
		At: time.Now(), RunID: h.runID, Dir: h.opts.Dir, Era: h.era, Resumed: h.opts.Resume,
		Tokens: h.run.TotalSamples() * h.sampleTokens(), TokensDone: h.consumed(),
		Params: params, ActiveParams: active, OwnData: h.run.Data.Own,
		Checkpoint: h.fromCheckpoint,
		BigramNats: h.data().BigramNats, TrigramNats: h.data().TrigramNats,
		Rollbacks: h.coord.Rollbacks(), Skipped: samplesOf(h.coord.Skipped()),
	}
	for _, i := range h.run.Islands {
		e.Islands = append(e.Islands, i.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(h.offers.restores)) { // nothing else has begun
		if !slices.Contains(e.Islands, name) {
			e.Islands = append(e.Islands, name)
		}
	}
	e.Outside = h.joinable()
	h.tokens = e.TokensDone
	h.emit(e)
	if !h.opts.Outside {
		h.emit(ledger.Note{At: time.Now(), Text: memoryOf(Options{Run: h.run, Listen: h.opts.Listen}).String()})
	}
	for _, n := range append(withoutEffect(h.run), startedElsewhere(h.opts, h.run)...) {
		h.emit(ledger.Note{At: time.Now(), Text: n})
	}
	h.tellNotes()
	h.tellJoins(h.emit)
}

// parameters counts the model's, and those that a token meets; 0: that is not known.
func (h *host) parameters() (all, active int64) {
	if h.run.Model.Foreign() {
		return int64(h.run.Size()), 0
	}
	count := h.run.Model.Count()
	return count.Total, count.Active
}

func (h *host) tellNotes() {
	for _, n := range h.notes {
		h.emit(ledger.Note{At: time.Now(), Text: n})
	}
}

// conclude measures the finished model and sums the run up.
func (h *host) conclude(err error) (ledger.Summary, error) {
	end := ledger.RunEnded{Outcome: ledger.RunFailed}
	switch {
	case err != nil:
		end.Reason = err.Error()
	default:
		end.Outcome, end.Reason = ledger.Outcome(h.result.Outcome), h.result.Why
		if h.evaluator == nil { // an island measures it, or nobody does
			break
		}
		loss, evalErr := h.evaluator.final(h.bank.flat(h.bank.theta))
		if evalErr != nil {
			err = fmt.Errorf("measuring the validation loss: %w", evalErr)
			break
		}
		h.emit(ledger.Evaluated{At: time.Now(), Tokens: h.tokens, Loss: loss, Final: h.result.Outcome == coord.Finished})
	}
	end.At = time.Now()
	h.emit(end)
	sum := h.ledger.Summary()
	h.keepSummary(sum, end.At)
	switch {
	case err != nil:
		return sum, err
	case h.result.Outcome == coord.Interrupted:
		return sum, ErrInterrupted
	case h.result.Outcome == coord.Failed:
		return sum, fmt.Errorf("%w: %s", ErrRunFailed, h.result.Why)
	}
	return sum, nil
}

// randomName is n random bytes in hex. A run's identity and secret must differ
// between runs of equal seed, so they do not come from the run's generator (D1
// is about what is computed).
func randomName(n int) string {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

var _ transport.Handler = (*host)(nil)
