package serve

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/launch"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// killAfter is how long an expelled process may take to end by itself. One that
// was stopped and wakes up within it learns that its incarnation is closed.
const killAfter = 20 * time.Second

// crew is the processes and sessions of the run by incarnation.
type crew struct {
	mu        sync.Mutex
	peers     map[uint64]*transport.Peer
	pids      map[uint64]uint64 // of the process that said Hello first
	processes map[uint64]*launch.Process
	islands   map[uint64]string
	seeded    map[uint64][][]byte    // tensor digests of what was sent, fragment by fragment
	kills     map[uint64]*time.Timer // of those that were expelled
	hellos    map[uint64]*wire.Hello // the first one of each
	gated     map[uint64]bool        // that came to the gate
}

func newCrew() crew {
	return crew{
		peers: map[uint64]*transport.Peer{}, pids: map[uint64]uint64{}, processes: map[uint64]*launch.Process{},
		islands: map[uint64]string{}, seeded: map[uint64][][]byte{}, kills: map[uint64]*time.Timer{}, hellos: map[uint64]*wire.Hello{}, gated: map[uint64]bool{},
	}
}

func (c *crew) peer(incarnation uint64) *transport.Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers[incarnation]
}

// started: its process is this one's, which starts the island again itself.
func (c *crew) started(incarnation uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.processes[incarnation] != nil
}

func (c *crew) island(incarnation uint64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.islands[incarnation]
}

// incarnation of an island that has a session; 0: there is none.
func (c *crew) incarnation(island string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for inc, name := range c.islands {
		if name == island && c.peers[inc] != nil {
			return inc
		}
	}
	return 0
}

// send queues a message to an incarnation; one that has no session misses it and
// asks again when it is back.
func (h *host) send(incarnation uint64, m transport.Down) {
	if p := h.crew.peer(incarnation); p != nil {
		if err := p.Send(m); err != nil {
			h.log.Warn("not_sent", "incarnation", incarnation, "err", err)
		}
	}
}

// sendAll is send to every host of an incarnation: each of them adopts.
func (h *host) sendAll(incarnation uint64, m transport.Down) {
	h.send(incarnation, m)
	for _, p := range h.parties.others(incarnation) {
		if err := p.Send(m); err != nil {
			h.log.Warn("not_sent", "incarnation", incarnation, "err", err)
		}
	}
}

// coordinate carries out one effect of the coordinator.
func (h *host) coordinate(e coord.Effect) {
	switch e := e.(type) {
	case coord.Record:
		if !h.append(h.coordTape, e.Record) {
			h.coordFX.abandon() // what stands behind a record must not happen without it
			return
		}
		if r, ok := e.Record.(coord.SpikeRecord); ok {
			h.emit(spikeEvent(r))
		}
		if r, ok := e.Record.(coord.GateRecord); ok {
			h.gateEvent(r)
		}
		if r, ok := e.Record.(coord.NotRestoredRecord); ok {
			h.offers.withdraw(r.Island)
			h.emit(ledger.NotRestored{At: r.At, Island: r.Island, Incarnation: r.Incarnation, Offers: r.Offers, Reason: r.Why})
		}
	case coord.Launch:
		h.launch(e)
	case coord.Accept:
		h.accept(e)
	case coord.Refuse:
		h.turnAway(e)
	case coord.Admit:
		h.admit(e)
	case coord.Let:
		h.let(e)
	case coord.Expel:
		h.expel(e.Incarnation, e.Why, false)
	case coord.Recall:
		h.expel(e.Incarnation, e.Why, true)
	case coord.Withdraw:
		h.offers.taken(e.Incarnation, e.Island)
	case coord.Grant:
		h.send(e.Incarnation, leaseMessage(leaseOf(e.From, e.Ranges)))
	case coord.Regrant:
		h.send(e.Incarnation, leaseMessage(leaseOf(e.From, e.Ranges)))
	case coord.NoWork:
		h.send(e.Incarnation, leaseMessage(&wire.Lease{}))
	case coord.Revoke:
		h.send(e.Incarnation, leaseMessage(&wire.Lease{Revoke: true}))
	case coord.Close:
		h.post(func() { h.exchange(syncer.Close{Incarnation: e.Incarnation}) })
	case coord.PauseExchange:
		h.post(func() { h.exchange(syncer.Pause{}) })
	case coord.ResumeExchange:
		h.post(func() { h.exchange(syncer.Resume{}) })
	case coord.Capture:
		h.capture(e)
	case coord.Cut:
		h.post(func() { h.exchange(syncer.TakeCut{Checkpoint: e.Checkpoint}) })
	case coord.Save:
		h.post(h.saveCut)
	case coord.Gone:
		h.parties.drop(e.Incarnation)
		h.asked.forget(e.Incarnation)
		h.offers.over(e.Incarnation)
		go h.door.forget(e.Incarnation) // it may be computing
		h.post(func() { h.lostPart(e.Incarnation) })
		h.emit(ledger.IslandGone{At: time.Now(), Island: e.Island, Incarnation: e.Incarnation, Kind: ledger.Departure(e.Kind), Reason: e.Why})
	case coord.Evaluate:
		h.post(func() { h.evaluateLast(e.Incarnation) })
	case coord.Dismiss:
		h.sendAll(e.Incarnation, transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Stop{Stop: &wire.Stop{Reason: "the run is over"}}}})
	case coord.Done:
		h.post(func() { h.result = &e })
	}
}

func leaseMessage(l *wire.Lease) transport.Down {
	return transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Lease{Lease: l}}}
}

func leaseOf(position int64, ranges []coord.Range) *wire.Lease {
	l := &wire.Lease{More: true, Position: uint64(position)}
	for _, r := range ranges {
		l.Ranges = append(l.Ranges, &wire.Range{From: uint64(r.From), To: uint64(r.To), Retry: r.Retry()})
	}
	return l
}

func islandPart(island string) string { return "islands/" + island + ".safetensors" }

// hostPart is what a host of an island beside its first writes.
func hostPart(island string, host int) string {
	return fmt.Sprintf("islands/%s/host-%d.safetensors", island, host)
}

// capture asks every host of an island for its part of the island's state.
func (h *host) capture(e coord.Capture) {
	island, others := h.crew.island(e.Incarnation), h.parties.others(e.Incarnation)
	objects := []string{store.PartName(e.Checkpoint, islandPart(island))}
	for i := range others {
		objects = append(objects, store.PartName(e.Checkpoint, hostPart(island, i+1)))
	}
	h.asked.ask(e.Incarnation, objects...)
	order := func(object string) transport.Down {
		return transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Capture{Capture: &wire.Capture{Checkpoint: e.Checkpoint, Object: object}}}}
	}
	h.send(e.Incarnation, order(objects[0]))
	for i, p := range others {
		if err := p.Send(order(objects[i+1])); err != nil {
			h.log.Warn("not_sent", "incarnation", e.Incarnation, "part", i+1, "err", err)
		}
	}
}

// launch starts the island's process under its new incarnation.
func (h *host) launch(e coord.Launch) {
	join := wire.Join{Address: h.address, RunID: h.runID, Era: h.era, Island: e.Island, Incarnation: e.Incarnation, Secret: h.secret}
	h.crew.mu.Lock()
	defer h.crew.mu.Unlock()
	h.crew.islands[e.Incarnation] = e.Island
	exited := func(why string) {
		h.post(func() { h.decide(coord.Exited{Incarnation: e.Incarnation, Why: why}) })
	}
	p := h.early.take(e.Island, e.Incarnation, exited)
	if p == nil {
		args, note := islandArgs(h.opts, h.run, h.runID, e.Island)
		if note != "" {
			h.emit(ledger.Note{At: time.Now(), Text: note})
		}
		var err error
		if p, err = launch.Start(launch.Spec{
			Args: args, Join: join.String(),
			Log: filepath.Join(h.opts.Dir, "logs", e.Island+"-"+strconv.FormatUint(e.Incarnation, 10)+".log"),
		}, exited); err != nil {
			go exited(err.Error())
			return
		}
	}
	h.crew.processes[e.Incarnation] = p
	h.emit(ledger.IslandStarted{At: time.Now(), Island: e.Island, Incarnation: e.Incarnation, Restart: e.Restart, Numeric: emulations(h.run)[e.Island], Engine: engineOf(h.run, e.Island)})
}

// admit welcomes a learner; the fragments follow when the gate has let it in.
func (h *host) admit(e coord.Admit) {
	h.send(e.Incarnation, h.welcome(e.Incarnation, h.restoreOf(e)))
	h.gate(e.Incarnation)
}

// runDir is the run folder for processes of this host, wherever they are started.
func (h *host) runDir() string {
	if dir, err := filepath.Abs(h.opts.Dir); err == nil {
		return dir
	}
	return h.opts.Dir
}

// expel ends the sessions of all hosts with a reason and sees to it that the process ends. Again: the island
// may come back, as another incarnation.
func (h *host) expel(incarnation uint64, why string, again bool) {
	for _, p := range append(h.parties.others(incarnation), h.crew.peer(incarnation)) {
		if p != nil {
			p.Reject(why, again)
		}
	}
	h.crew.mu.Lock()
	defer h.crew.mu.Unlock()
	if p := h.crew.processes[incarnation]; p != nil {
		h.crew.kills[incarnation] = time.AfterFunc(killAfter, p.Kill)
	}
}

// disband ends every process: those that were dismissed get patience, those that
// were expelled had theirs.
func (h *host) disband(patience time.Duration) {
	h.crew.mu.Lock()
	var wg sync.WaitGroup
	for incarnation, p := range h.crew.processes {
		patience := patience
		if h.goesBack() && h.attended(incarnation) { // its trainer is to hear why
			patience = dismissPatience
		}
		if t := h.crew.kills[incarnation]; t != nil {
			t.Stop()
			patience = 0
		}
		wg.Go(func() { p.Stop(patience) })
	}
	h.crew.mu.Unlock()
	wg.Wait()
}
