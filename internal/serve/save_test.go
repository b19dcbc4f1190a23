package serve

import (
	"context"
	"errors"
	"testing"

	"github.com/mistura-project/mistura/internal/wire"
)

// A checkpoint takes in the states that were stored, leaves out the island that is
// gone before it stored its own, and does not wait for ever.
func TestCheckpointAwaitsWhatIslandsStore(t *testing.T) {
	stored := func(s *wire.Stored) *captured {
		c := &captured{message: &wire.Captured{}, stored: make(chan *wire.Stored, 1)}
		if s != nil {
			c.stored <- s
		}
		return c
	}
	there, gone := stored(&wire.Stored{SizeBytes: 7, Digest: "abc"}), stored(nil)
	close(gone.stored)
	c := &cutState{
		meta:    Meta{Islands: map[string]SavedPart{"there": {Incarnation: 1}, "gone": {Incarnation: 2}}},
		islands: map[string]*captured{"there": there, "gone": gone},
	}
	if err := c.awaitIslands(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	if p := c.meta.Islands["there"]; len(c.meta.Islands) != 1 || p.Incarnation != 1 || p.SizeBytes != 7 || p.Digest != "abc" {
		t.Errorf("parts %+v", c.meta.Islands)
	}
	if err := c.awaitIslands(context.Background(), ""); err != nil || len(c.meta.Islands) != 1 { // an attempt after a full store
		t.Errorf("second attempt: %v, parts %+v", err, c.meta.Islands)
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.islands = map[string]*captured{"silent": stored(nil)}
	if err := c.awaitIslands(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("an island that says nothing: %v", err)
	}
}
