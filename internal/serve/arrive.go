package serve

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// arrivals are the islands from outside that the coordinator has not answered yet.
type arrivals struct {
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]arrival
}

type arrival struct {
	peer  *transport.Peer
	hello *wire.Hello
}

func (a *arrivals) add(n arrival) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	a.waiting[a.last] = n
	return a.last
}

// rest are those that were not answered.
func (a *arrivals) rest() []arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.waiting))
}

func (a *arrivals) take(number uint64) arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.waiting[number]
	delete(a.waiting, number)
	return n
}

// allowHello judges who opens a session: who has a pass is that incarnation, or comes back
// under its name; a further host does so in the incarnation that its first host has by then.
func (op *opened) allowHello(hello *wire.Hello, origin *wire.Origin) string {
	if of, ok := op.authority.LifeOf(op.runID, hello.Secret); ok {
		same := origin.GetIncarnation() == of.Incarnation && origin.GetEra() == of.Era
		if same || (origin.GetIncarnation() == 0 || hello.Part > 0) && hello.Island == of.Island {
			return ""
		}
	}
	return op.allow(hello.Secret, hello.Token)
}

// allow judges a secret of this process or the token of a join string.
func (op *opened) allow(secret, token string) string {
	switch {
	case authority.Holds(secret, op.secret):
		return ""
	case token == "":
		return fmt.Sprintf("the secret of the join string (%d characters) is not that of run %q; copy the join string again", len(secret), op.runID)
	}
	_, why := op.authority.Read(op.runID, token, time.Now())
	if why != "" {
		why = "the join string is not accepted: " + why + "; ask for a new one (mistura token)"
	}
	return why
}

// arrive asks the coordinator to take an island from outside.
func (h *host) arrive(p *transport.Peer, hello *wire.Hello) {
	if why := refusal(h.run, hello.KernelSet, hello); why != "" { // other kernels give other bits, as other chips do
		p.Reject(why, false)
		return
	}
	if d := hex.EncodeToString(hello.DataDigest); d != "" && d != h.data().Digest {
		p.Reject(fmt.Sprintf("its data has digest %s, the run's has %s: order and tokens would differ; leave --data out to have the run's", d, orElse(h.data().Digest, "none")), false)
		return
	}
	in := coord.Arrived{Island: hello.Island}
	of, back := h.authority.LifeOf(h.runID, hello.Secret)
	if back = back && hello.Island == of.Island; !back && hello.Token != "" { // who comes back is in already
		token, why := h.authority.Read(h.runID, hello.Token, time.Now())
		if why != "" {
			p.Reject(why, false)
			return
		}
		if token.Island != "" && hello.Island != "" && hello.Island != token.Island {
			p.Reject(fmt.Sprintf("the join string is for island %q, not %q", token.Island, hello.Island), false)
			return
		}
		in.Island = orElse(in.Island, token.Island)
		if token.Uses > 0 {
			in.Token, in.Uses = token.ID, token.Uses
		}
	}
	in.Arrival = h.arrivals.add(arrival{p, hello})
	if h.late(p) {
		return
	}
	h.post(func() { h.decide(in) })
}

// accept makes the session of an arrival that of its incarnation.
func (h *host) accept(e coord.Accept) {
	a := h.arrivals.take(e.Arrival)
	h.crew.mu.Lock()
	h.crew.islands[e.Incarnation] = e.Island
	h.crew.mu.Unlock()
	a.hello.Island = e.Island
	a.peer.Adopt(e.Incarnation)
	h.emit(ledger.IslandStarted{
		At: time.Now(), Island: e.Island, Incarnation: e.Incarnation, Restart: e.Restart, From: a.peer.Addr(), Numeric: emulations(h.run)[e.Island],
		Engine: a.hello.Engine, Device: a.hello.Device, Ranks: int(a.hello.Ranks),
	})
	if why := h.crew.register(e.Incarnation, a.peer, a.hello); why != "" {
		a.peer.Close(why)
		return
	}
	select {
	case <-a.peer.Done(): // Gone may have come before anybody knew whose session it is
		h.post(func() {
			h.decide(coord.Exited{Incarnation: e.Incarnation, Why: "its session ended before it was let in"})
		})
		return
	default:
	}
	if !h.seated(e.Incarnation, a.peer, a.hello) {
		return
	}
	h.post(func() { h.decide(coord.Joined{Incarnation: e.Incarnation, Island: e.Island}) })
}

// turnAway tells an arrival why it is not taken.
func (h *host) turnAway(e coord.Refuse) {
	h.arrivals.take(e.Arrival).peer.Reject(e.Why, e.Retry)
}

// wentBack is why everybody is to come again.
func (h *host) wentBack() string { return "the run was rolled back: " + h.result.Why }

// late sends somebody away who has come between two eras, to come again: nobody here would
// answer. Who is known before it is asked is not missed by callBack.
func (h *host) late(p *transport.Peer) bool {
	select {
	case <-h.ended:
	default:
		return false
	}
	if h.goesBack() {
		p.Reject(h.wentBack(), true)
	}
	return h.goesBack()
}

// callBack asks everybody whose trainer was not started by this run to come again: this
// era is over, and the next one is about to begin.
func (h *host) callBack() {
	why := h.wentBack()
	for _, a := range h.arrivals.rest() {
		a.peer.Reject(why, true)
	}
	h.crew.mu.Lock()
	defer h.crew.mu.Unlock()
	for inc, p := range h.crew.peers {
		if h.crew.processes[inc] != nil && !h.attended(inc) {
			continue
		}
		for _, other := range h.parties.others(inc) {
			other.Reject(why, true)
		}
		p.Reject(why, true)
	}
}

// attended: this island's trainer is a program that somebody else has started; crew.mu is held.
func (h *host) attended(inc uint64) bool {
	return slices.ContainsFunc(h.run.Islands, func(i runfile.Island) bool {
		return i.Name == h.crew.islands[inc] && i.Engine == runfile.External
	})
}
