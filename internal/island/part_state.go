package island

import (
	"context"
	"fmt"
	"sync"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// partState is a further host's part of its island's state: it writes what its ranks hold,
// and gives them what they are to hold of the files of all hosts.
type partState struct {
	keeping *keeping
	reserve reserve
	store   store.Store
	layout  string
	saved   *wire.IslandState // to be restored; nil: nothing
	steps   uint64            // that were made before those of this session; guarded by the follower's mu
	once    sync.Once
	failed  error
}

// slot takes a rank's part of a slot.
func (f *follower) slot(r *attach.Rank, m *attach.Slot) error {
	k := f.state.keeping
	if m.Checkpoint != 0 {
		if err := k.expected(m.Checkpoint); err != nil {
			return err
		}
	}
	finish, err := k.slot(r, m)
	if finish != nil {
		f.work.Go(func() { finish()() })
	}
	return err
}

// capture begins to collect this host's part of a checkpoint; the ranks hear of it from
// the first host.
func (f *follower) capture(ctx context.Context, ask *wire.Capture) {
	s := &f.state
	c := &capture{release: func() {}, checkpoint: ask.Checkpoint}
	c.counters.Format = StateFormat
	s.keeping.drop() // what the first host has never ordered
	s.keeping.expect(c, &s.reserve, func(err error) {
		stored := &wire.Stored{Checkpoint: ask.Checkpoint}
		if err != nil {
			stored.Reason = err.Error()
		} else {
			stored = c.keep(ctx, s.store, f.log, s.layout, ask)
		}
		f.link.send(&wire.FromLearner{Body: &wire.FromLearner_Stored{Stored: stored}}, nil)
	})
}

// load gives a rank its part of a slot.
func (f *follower) load(r *attach.Rank, m *attach.Load) error {
	f.state.once.Do(func() { f.state.failed = f.open() })
	if f.state.failed != nil {
		return f.state.failed
	}
	return f.state.keeping.load(r, m)
}

// open reads the state that the island takes over.
func (f *follower) open() error {
	s := f.state.saved
	if s == nil {
		return senseless("a rank loads a state, and there is none")
	}
	if err := checkFiles(f.holding.life, f.holding.within(s.Files)); err != nil {
		return err
	}
	file, err := openState(f.holding.life, f.state.store, s)
	if err != nil {
		return err
	}
	saved := &savedState{file: file, momentsOnly: s.MomentsOnly, fragments: len(f.fragments)}
	if !s.MomentsOnly {
		if err := f.compose(saved, s); err != nil {
			file.close() //nolint:errcheck // it was read only
			return fmt.Errorf("saved state %s: %w", s.Object, err)
		}
	}
	f.state.keeping.begin(saved, func(got *wire.Restored, err error) {
		file.close() //nolint:errcheck // it was read only
		f.restored(s, got, err)
	})
	return nil
}

// restored tells what became of this host's part of the state. Without it the island would
// train with a state of which one host has nothing: it ends.
func (f *follower) restored(s *wire.IslandState, got *wire.Restored, err error) {
	if err != nil {
		f.fail(fmt.Errorf("saved state %s: %w", s.Object, err))
		return
	}
	f.link.keep(&wire.FromLearner{Body: &wire.FromLearner_Restored{Restored: got}})
}

// compose makes the weights that the island is to have, as its first host does.
func (f *follower) compose(saved *savedState, s *wire.IslandState) error {
	k := f.state.keeping
	saved.weights = make([]float32, k.size())
	if err := saved.file.read(weightsSlot, k.table, saved.weights); err != nil {
		return err
	}
	if marks := saved.file.counters.Fragments; len(marks) != len(f.fragments) || len(s.Keep) != len(f.fragments) {
		return fmt.Errorf("%d fragments, the run has %d", len(marks), len(f.fragments))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.steps = saved.file.counters.Step
	for p, at := range f.fragments {
		if s.Keep[p] && saved.file.counters.Fragments[p].Version == at.seeded {
			saved.kept++
			continue
		}
		f.holding.fragments[p].Scatter(saved.weights, at.seed)
	}
	for _, at := range f.fragments {
		at.seed = nil
	}
	return nil
}
