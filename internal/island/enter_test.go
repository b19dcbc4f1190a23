package island

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// Danger: the weights of a large model take longer than somebody thought a join may take,
// and whoever raises limits.first_step_seconds is given up all the same. What is bounded
// is silence.
func TestJoinTakesAsLongAsItsTransfer(t *testing.T) {
	run, _, dataDir := tiny(t, func(r *runfile.Run) { r.Exchange.Fragments = 3 })
	for name, c := range map[string]struct {
		gap  time.Duration // between fragments
		want string
	}{
		"three transfers of four minutes": {4 * time.Minute, ""},
		"silence":                         {24 * time.Hour, "the coordinator's next word did not come within 5m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				k := &link{in: make(chan any)}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r := &runner{link: k, log: slog.New(slog.DiscardHandler), beat: &beat{}, asides: newAsides(ctx, false)}
				say := func(m transport.Down) {
					select {
					case k.in <- m:
					case <-ctx.Done():
					}
				}
				go func() {
					say(transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Welcome{Welcome: &wire.Welcome{
						RunYaml: run.Marshal(), RunDir: folder, DataDir: dataDir,
					}}}})
					for p, f := range newFragments(run.Table(), 0, run.Exchange.Fragments) {
						select {
						case <-time.After(c.gap):
						case <-ctx.Done():
						}
						say(transport.Down{
							ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Fragment{Fragment: &wire.Fragment{Fragment: uint32(p)}}},
							Payload:   wire.AppendF32(nil, make([]float32, f.Size)),
						})
					}
				}()
				welcome, err := r.seeded(ctx, wire.Join{Island: run.Islands[0].Name})
				if r.learner != nil {
					defer r.learner.Close()
					defer r.data.Close()
				}
				switch {
				case c.want == "" && (err != nil || welcome.RunDir != folder):
					t.Errorf("%v, %v", welcome, err)
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
					t.Errorf("%v", err)
				}
			})
		})
	}
}
