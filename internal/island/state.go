package island

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/spike"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// StateFormat is the version of an island's saved state.
//
// History (append only):
//
//	1  first version
//	2  withheld samples and the spike rule's window; a state of format 1 has neither
//	3  slots: moments that an optimizer does not have are left out, and the digest of each
//	   slot; states of formats 1 and 2 have all three and no digests
const StateFormat = 3

// slotsFormat is the first format that names its slots.
const slotsFormat = 3

// stateKey is the entry of the file's metadata that holds counters.
const stateKey = "island_state"

// counters is everything of a learner that is not a tensor.
type counters struct {
	Format     int                `json:"format"`
	Step       uint64             `json:"step"`
	Position   int64              `json:"position_samples"`
	Skipped    uint64             `json:"skipped_steps"`
	Withheld   int64              `json:"withheld_samples"`
	Surplus    int64              `json:"surplus_tokens"` // of own data, trained beyond the lease
	AdamSteps  uint64             `json:"adam_steps"`
	JoinSteps  int64              `json:"join_steps"`
	ClockStamp int64              `json:"clock_stamp_tokens"`
	ClockOwn   int64              `json:"clock_own_tokens"`
	Losses     []float64          `json:"losses"`
	Experts    []int64            `json:"expert_tokens"`
	Fragments  []fragmentCounters `json:"fragments"`

	Slots     []savedSlot `json:"slots"`      // in the file
	LossScale float32     `json:"loss_scale"` // 0: none
	GoodSteps int         `json:"loss_scale_steps"`
}

type fragmentCounters struct {
	Version      uint64  `json:"version"`
	SentStep     uint64  `json:"sent_step"`
	SentPosition int64   `json:"sent_position_samples"`
	SentWithheld int64   `json:"sent_withheld_samples"`
	SentExperts  []int64 `json:"sent_expert_tokens"`
}

// decodeCounters reads counters and refuses those that no learner can have.
func decodeCounters(data []byte) (counters, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return counters{}, err
	}
	if version.Format < 1 || version.Format > StateFormat {
		return counters{}, fmt.Errorf("format %d, this program reads 1 to %d", version.Format, StateFormat)
	}
	var c counters
	if err := json.Unmarshal(data, &c); err != nil {
		return counters{}, err
	}
	if problem := c.problem(); problem != "" {
		return counters{}, errors.New(problem)
	}
	return c, nil
}

// problem tells what contradicts itself, or nothing.
func (c counters) problem() string {
	switch {
	case c.Position < 0 || c.Surplus < 0:
		return fmt.Sprintf("position_samples is %d, surplus_tokens is %d", c.Position, c.Surplus)
	case c.Skipped > c.Step || c.JoinSteps > 0 && uint64(c.JoinSteps) > c.Step: // adam_steps may be more: a joiner has its moments from a peer
		return fmt.Sprintf("%d skipped_steps and %d join_steps in %d steps", c.Skipped, c.JoinSteps, c.Step)
	case c.Withheld < 0 || c.Withheld > c.Position:
		return fmt.Sprintf("withheld_samples is %d of %d", c.Withheld, c.Position)
	case len(c.Losses) > spike.MaxWindow:
		return fmt.Sprintf("%d losses", len(c.Losses))
	case c.JoinSteps < -1:
		return fmt.Sprintf("join_steps is %d", c.JoinSteps)
	case c.ClockStamp < 0 || c.ClockOwn < 0:
		return fmt.Sprintf("the clock is at %d and %d tokens", c.ClockStamp, c.ClockOwn)
	}
	if problem := slotsProblem(c.Slots, c.Format); problem != "" {
		return problem
	}
	for i, n := range c.Experts {
		if n < 0 {
			return fmt.Sprintf("expert %d has %d tokens", i, n)
		}
	}
	for p, f := range c.Fragments {
		if problem := f.problem(c); problem != "" {
			return fmt.Sprintf("fragment %d: %s", p, problem)
		}
	}
	return ""
}

// problem tells what cannot be: what was sent is part of what was trained.
func (f fragmentCounters) problem(c counters) string {
	switch {
	case f.SentStep > c.Step:
		return fmt.Sprintf("sent_step is %d of %d steps", f.SentStep, c.Step)
	case f.SentPosition < 0 || f.SentPosition > c.Position:
		return fmt.Sprintf("sent_position_samples is %d of %d", f.SentPosition, c.Position)
	case f.SentWithheld < 0 || f.SentWithheld > min(c.Withheld, f.SentPosition) || c.Withheld-f.SentWithheld > c.Position-f.SentPosition:
		return fmt.Sprintf("sent_withheld_samples is %d of %d", f.SentWithheld, c.Withheld)
	case len(f.SentExperts) != len(c.Experts):
		return fmt.Sprintf("counts %d experts of %d", len(f.SentExperts), len(c.Experts))
	}
	for i, n := range f.SentExperts {
		if n < 0 || n > c.Experts[i] {
			return fmt.Sprintf("expert %d has sent %d of %d tokens", i, n, c.Experts[i])
		}
	}
	return ""
}

// savedState is what a trainer is to take over.
type savedState struct {
	file        *stateFile
	weights     []float32 // flat: the saved ones in fragments that are kept, the model's in others; nil with momentsOnly
	kept        int       // fragments
	fragments   int       // of the run
	momentsOnly bool
	files       []*wire.StateFile // that the trainer saved itself
}

// restore takes over a saved state. It comes after every fragment was seeded: a
// fragment that is not kept stays at the syncer's value and counts from here. What
// became of it is told to done.
func (l *Learner) restore(ctx context.Context, st store.Store, s *wire.IslandState, done func(*wire.Restored, error)) {
	file, err := openState(ctx, st, s)
	if err != nil {
		done(nil, err)
		return
	}
	finish := func(r *wire.Restored, err error) {
		if err != nil {
			err = fmt.Errorf("saved state %s: %w", s.Object, err)
		}
		done(r, errors.Join(err, file.close()))
	}
	saved := &savedState{file: file, momentsOnly: s.MomentsOnly, fragments: len(l.fragments), files: s.Files}
	if err = l.compareFiles(ctx, s.Files); err == nil && !s.MomentsOnly {
		err = l.takeOver(saved, s)
	}
	if err != nil {
		finish(nil, err)
		return
	}
	if s.MomentsOnly && (file.has(secondSlot) || len(s.Files) > 0) {
		l.joinSteps = -1
	}
	l.trainer.restore(saved, finish)
}

// compareFiles looks at what the trainer had saved itself, as far as it lies on this host.
func (l *Learner) compareFiles(ctx context.Context, files []*wire.StateFile) error {
	if x, ok := l.trainer.(*external); ok {
		files = x.holding.within(files)
	}
	return checkFiles(ctx, files)
}

// takeOver installs counters, and composes the weights that the trainer is to have.
func (l *Learner) takeOver(saved *savedState, s *wire.IslandState) error {
	if err := l.fits(saved.file.counters, s); err != nil {
		return err
	}
	table := l.run.Table()
	saved.weights = make([]float32, l.run.Size())
	if err := saved.file.read(weightsSlot, table, saved.weights); err != nil {
		return err
	}
	saved.kept = l.take(saved.file.counters, s, saved.weights)
	if !saved.file.has(secondSlot) && len(s.Files) == 0 {
		l.joinSteps = 0 // its rate rises, as that of any learner without second moments
	}
	return nil
}

func (l *Learner) fits(c counters, s *wire.IslandState) error {
	switch {
	case len(c.Fragments) != len(l.fragments) || len(s.Keep) != len(l.fragments):
		return fmt.Errorf("%d fragments, the run has %d", len(c.Fragments), len(l.fragments))
	case len(c.Experts) != len(l.expert):
		return fmt.Errorf("%d experts in all, the model has %d", len(c.Experts), len(l.expert))
	case slices.Contains(s.Keep, true) && (uint64(c.Position) != s.Position || uint64(c.Withheld) != s.Withheld):
		return fmt.Errorf("position_samples is %d with %d withheld, the coordinator counts %d with %d", c.Position, c.Withheld, s.Position, s.Withheld)
	}
	return nil
}

// take installs counters, and puts the model's weights in place of those of fragments that
// are not kept. It tells how many are.
func (l *Learner) take(c counters, s *wire.IslandState, weights []float32) (kept int) {
	seeded := l.clock
	l.step, l.skipped, l.joinSteps = c.Step, c.Skipped, c.JoinSteps
	l.position, l.withheld = int64(s.Committed), int64(s.Withheld)
	l.rule.Restore(c.Losses)
	for p, f := range l.fragments {
		if s.Keep[p] && c.Fragments[p].Version == f.version { // it carries what is not in the model
			l.position, l.surplus = int64(s.Position), c.Surplus
			kept++
		}
	}
	l.leases.granted = l.position
	copy(l.expert, c.Experts)
	for p, f := range l.fragments {
		fc := c.Fragments[p]
		if !s.Keep[p] || fc.Version != f.version {
			f.Scatter(weights, f.anchor)
			f.restart(l)
			continue
		}
		f.sentStep, f.sentPosition, f.sentWithheld = fc.SentStep, fc.SentPosition, fc.SentWithheld
		copy(f.sentExperts, fc.SentExperts)
	}
	l.clock = clock{c.ClockStamp, c.ClockOwn}
	if kept < len(l.fragments) && seeded.stamp > l.clock.at(l.ownTokens()) { // the model is further than this learner was
		l.clock = clock{seeded.stamp, l.ownTokens()}
	}
	return kept
}

// report is what is told of a state that was taken over: now has weights and moments
// gathered anew. What was loaded to the bit is told by its digest.
func (s *savedState) report(table []model.Tensor, now map[string][]float32) (*wire.Restored, error) {
	out := &wire.Restored{}
	if !s.momentsOnly && s.kept < s.fragments {
		s.file.remark("weights of %d of %d fragments are the model's: they have moved on since", s.fragments-s.kept, s.fragments)
	}
	for _, slot := range slotNames() {
		flat, asked := now[slot]
		switch {
		case !asked || slot == weightsSlot && s.kept < s.fragments:
		case s.file.has(slot):
			digest := gathered.Digest(slotTensors(slot, table, flat))
			if why := s.file.unlike(slot, digest); why != "" {
				return nil, errors.New(why)
			}
			out.Slots = append(out.Slots, &wire.SlotDigest{Slot: slot, Digest: digest})
		default:
			s.file.remark("%s begin at zero: the state has none", slot)
		}
	}
	out.Remarks = s.file.remarks()
	return out, nil
}
