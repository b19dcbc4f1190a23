package island

import (
	"context"

	"github.com/mistura-project/mistura/internal/spike"
	"github.com/mistura-project/mistura/internal/wire"
)

// trainer is what computes: it holds weights and optimizer of the replica, and does at
// step boundaries what the exchange orders. The learner's goroutine calls it and nobody
// else; native is the engine of this program, external a program of the user's, which
// does what is ordered before its next step and may take its time.
type trainer interface {
	// begin trains one step. What became of it comes on the channel, which never blocks
	// the sender; at once when the trainer computes here.
	begin(t *task) <-chan outcome
	// rest: there is nothing to train for now, but what was ordered is to be done.
	rest(why string)
	// end is after the last boundary: what was ordered is done, then the trainer is dismissed.
	end(ctx context.Context, why string) error
	// gather takes the fragment's weights for the flight that has just begun: at once
	// (true), or the trainer says when it has them.
	gather(f *exchange) bool
	// offer prepares the adoption of the flight's verdict, off the learner's goroutine.
	offer(f *exchange)
	// adopt is θ ← θ + (value of the flight's verdict − where the learner was).
	adopt(f *exchange)
	// install is θ ← value. The value is not kept.
	install(f *exchange, value []float32)
	// forget starts the optimizer anew.
	forget()
	// look tells of a fragment that no step has changed since it was sent whether it holds
	// a value that is not finite, and whether it differs from the anchor.
	look(f *exchange) (broken, apart bool)
	keeper
}

// keeper saves and restores what a trainer has beyond the exchange: weights, optimizer
// and whatever it counts, as they are at this boundary. Either is done before the next
// step; done is called once, at once or later on the learner's goroutine.
type keeper interface {
	// save copies it into c, or says why it cannot be saved.
	save(c *capture, done func(error))
	// restore takes it over from s, gathers it anew and tells what it found.
	restore(s *savedState, done func(*wire.Restored, error))
	Close()
}

var _ trainer = (*native)(nil)

// task is one inner step to make.
type task struct {
	samples []uint64 // none with a trainer's own data
	retry   bool     // they were in a step that was withheld
	tokens  int64    // of the samples; with own data: of a usual step
	clock   int64    // tokens that rate and routing depend on, with this step's
	rate    float64  // of the run's schedule
	left    int64    // samples leased behind them
	seen    int64    // tokens committed, as of the fragment adopted last
	judge   func(loss, gradientNorm float64) spike.Decision
}

// outcome is what became of it.
type outcome struct {
	loss, norm    float64 // mean next-token loss, nats; gradient norm before clipping
	rate          float64 // that was used
	tokens        int64
	experts       []int64 // tokens by layer and expert; nil: unknown, or no experts
	decision      spike.Decision
	applied       bool    // weights have changed
	again         bool    // not applied and no spike: the same samples follow once more
	seconds, busy float64 // of the step as the trainer took it; 0: unknown
	err           error
}
