package serve

import (
	"log/slog"
	"testing"

	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/wire"
)

// atTheDoor is a coordinator of island "a" on two hosts, both of which are here.
func atTheDoor(t *testing.T) (h *host, v *visitors) {
	v = receive(t)
	h = &host{
		opened: &opened{}, log: slog.New(slog.DiscardHandler), crew: newCrew(), ended: make(chan struct{}), inbox: make(chan func(), 1),
		parties: holding(t, nil, []layout.Box{layout.Whole(0, []int{4, 6})}),
	}
	_, first := v.visit(t)
	h.crew.islands[1], h.crew.peers[1] = "a", first
	h.parties.of[1].hosts[1].pid = 7
	return h, v
}

// Danger: the stream of a further host breaks after its first words have come and before it hears
// of it. It comes again, its place is taken by itself, and the whole island is shut out for good.
func TestAHostThatWasNotWelcomedComesAgain(t *testing.T) {
	h, v := atTheDoor(t)
	c, p := v.visit(t)
	h.helloPart(1, p, &wire.Hello{Island: "a", Part: 1, Parts: 2, Pid: 7})
	toldToReturn(t, "the same process", c)
	if len(h.inbox) != 1 {
		t.Error("the island's other hosts do not hear that they are to join again")
	}
	<-h.inbox
	c, p = v.visit(t)
	h.helloPart(1, p, &wire.Hello{Island: "a", Part: 1, Parts: 2, Pid: 8})
	if m, err := c.Recv(t.Context()); err != nil || m.GetRejected() == nil || m.GetRejected().Retry {
		t.Errorf("another process in its place hears %v, %v", m.ToLearner, err)
	}
}

// Danger: who may come as one island ends another by its incarnation.
func TestAHostOfAnotherIslandEndsNobody(t *testing.T) {
	h, v := atTheDoor(t)
	for _, back := range []bool{false, true} {
		c, p := v.visit(t)
		h.helloPart(1, p, &wire.Hello{Island: "b", Part: 1, Parts: 2, Pid: 7, Reconnect: back})
		if m, err := c.Recv(t.Context()); err == nil {
			t.Errorf("back %v: it hears %v", back, m.ToLearner)
		}
		if len(h.inbox) > 0 {
			t.Errorf("back %v: island a is ended", back)
		}
	}
}
