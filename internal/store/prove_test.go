package store_test

import (
	"context"
	"testing"

	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/store/storetest"
)

// overwriting is a store whose creations replace what is there.
type overwriting struct{ store.Store }

func (o overwriting) Create(ctx context.Context, name string, data []byte) error {
	_, err := o.Put(ctx, name, writing(data))
	return err
}

// refusing is a store that says of every name that it is in use.
type refusing struct{ store.Store }

func (refusing) Create(context.Context, string, []byte) error { return store.ErrExists }

// forgetful is a store that answers rightly and keeps something else.
type forgetful struct{ store.Store }

func (f forgetful) Create(ctx context.Context, name string, _ []byte) error {
	return f.Store.Create(ctx, name, nil)
}

// A store without the one property that keeps two writers apart is refused, with
// the reason, before a run starts on it.
func TestProveExclusiveRefuses(t *testing.T) {
	for _, c := range []struct {
		st   store.Store
		want string
	}{
		{overwriting{store.NewMemory()}, "both succeeded"},
		{refusing{store.NewMemory()}, "both refused"},
		{forgetful{store.NewMemory()}, `then read ""`},
		{storetest.Wrap(store.NewMemory(), storetest.Fault{Op: storetest.Create, Nth: 1}), "injected"},
		{storetest.Wrap(store.NewMemory(), storetest.Fault{Op: storetest.Create, Nth: 3}), "created again"},
		{storetest.Wrap(store.NewMemory(), storetest.Fault{Op: storetest.Open}), "injected"},
		{storetest.Wrap(store.NewMemory(), storetest.Fault{Op: storetest.Delete}), "injected"},
	} {
		wantFault(t, store.ProveExclusive(t.Context(), c.st), "memory: cannot be used as a store", c.want)
	}
}

// The reply to the commit of a checkpoint is lost; committing again finds it done.
func TestCheckpointCommitAgain(t *testing.T) {
	st := storetest.Wrap(store.NewMemory(), storetest.Fault{Op: storetest.Create, Nth: 1, Effect: storetest.Done})
	w, err := store.Begin(t.Context(), st, 3)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := build(3)(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), meta); err == nil {
		t.Fatal("the fault did not fire")
	}
	c, err := w.Commit(t.Context(), meta)
	if err != nil {
		t.Fatal(err)
	}
	wantCheckpoint(t, c, 3)
	if err := w.Abandon(t.Context()); err == nil {
		t.Error("a committed checkpoint was abandoned")
	}
	wantNewest(t, st, 3)
	// Other content under the number is somebody else's checkpoint.
	if _, err := w.Commit(t.Context(), counters{Step: 4}); err == nil {
		t.Error("a checkpoint was committed a second time with another meta")
	}
}
