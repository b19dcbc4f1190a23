package island

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// Danger: the disk is full when an island writes its state, and the checkpoint goes without
// it. It tries again every few seconds until there is room; only the end of the process
// makes it give up, with the reason.
func TestStateWaitsForRoom(t *testing.T) {
	run, data, _ := tiny(t, nil)
	l := seeded(t, run, data)
	c, err := captureNow(l)
	if err != nil {
		t.Fatal(err)
	}
	const end = 13*saveRetryEvery - time.Second // of the process
	ask := &wire.Capture{Checkpoint: 3, Object: stateName}
	for name, relief := range map[string]time.Duration{"room after a while": 4*saveRetryEvery - time.Second, "never": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := store.NewMemory()
				st.SetCapacity(100)
				r := &runner{store: st, log: slog.New(slog.NewTextHandler(logTo{t}, nil))}
				ctx, cancel := context.WithTimeout(t.Context(), end)
				defer cancel()
				if relief > 0 {
					time.AfterFunc(relief, func() { st.SetCapacity(1 << 30) })
				}
				began := time.Now()
				stored := c.keep(ctx, r.store, r.log, "", ask)
				took := time.Since(began)
				switch {
				case relief > 0 && (stored.Reason != "" || stored.Object != stateName || stored.SizeBytes == 0 || took != 4*saveRetryEvery):
					t.Errorf("after %v: %v", took, stored)
				case relief == 0 && (!strings.Contains(stored.Reason, store.ErrFull.Error()) || stored.Checkpoint != 3 || took != end):
					t.Errorf("after %v: %v", took, stored)
				}
			})
		})
	}
}

// A store that fails otherwise is not asked again: the checkpoint goes without the state.
func TestStateThatCannotBeStored(t *testing.T) {
	run, data, _ := tiny(t, nil)
	c, err := captureNow(seeded(t, run, data))
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{store: store.NewMemory(), log: slog.New(slog.NewTextHandler(logTo{t}, nil))}
	if stored := c.keep(t.Context(), r.store, r.log, "", &wire.Capture{Checkpoint: 3, Object: "not a name/"}); stored.Reason == "" || stored.Object != "" {
		t.Errorf("%v", stored)
	}
}
