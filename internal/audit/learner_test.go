package audit_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/spike"
	"github.com/mistura-project/mistura/internal/syncer"
)

// Messages to a learner, as package wire has them.
type (
	welcome struct{ restore *restore }
	seedMsg struct {
		fragment int
		version  uint64
	}
	leaseMsg struct {
		position     int64
		ranges       []coord.Range
		more, revoke bool
	}
	callMsg    struct{ syncer.Call }
	verdictMsg struct {
		key     syncer.Key
		ruling  syncer.Ruling
		version uint64
	}
	captureMsg  struct{ checkpoint uint64 }
	stopMsg     struct{}
	rejectedMsg struct{}
	backMsg     struct{} // its stream is there again
)

// learner is the model of package island's loop: what it says and when, without
// tensors. Samples stand in for them: trained is every sample in order.
type learner struct {
	s      *fleet
	era    int
	inc    uint64
	island string
	pace   time.Duration // of one inner step

	up, down           *pipe
	linked             bool
	dead, frozen, hung bool // hung: its next step does not end
	ready, expelled    bool
	leaving, gone      bool // gone: it has said so

	inbox     []any
	seeded    int
	fragments []*exchange
	trained   []int64 // sample numbers by position; -1: not known any more
	leased    int64   // samples it was given in all
	lease     []item  // not trained yet
	holes     []bool  // by position: in a step that was not applied
	kept      []coord.Spiked
	step      uint64
	stepping  bool
	calls     []syncer.Call
	capture   *captureMsg
	seeds     []seedMsg
	dry       bool
	asked     bool
	idle      bool
	waiting   string
	starving  time.Duration // since when it waits for samples that the pool has; -1: it does not
	restore   *restore
	defects   int // contributions still to be spoilt
	seconds   float64
}

// item is one sample of a lease.
type item struct {
	sample int64
	retry  bool
}

type exchange struct {
	version      uint64
	sequence     uint64
	sentStep     uint64
	sentPosition int64
	flight       *flight
}

type flight struct {
	contribution syncer.Contribution
	samples      []int64
	verdict      *verdictMsg
}

func (l *learner) position() int64 { return int64(len(l.trained)) }

func (l *learner) send(f func()) {
	if l.linked && !l.dead {
		l.up.put(f)
	}
}

// tell is a message to the learner.
func (l *learner) tell(m any) {
	if l.linked && !l.dead {
		l.down.put(func() {
			l.inbox = append(l.inbox, m)
			l.wake()
		})
	}
}

func (l *learner) input(in coord.Input) { l.send(func() { l.s.decide(in) }) }

// wake runs the loop until it steps or waits.
func (l *learner) wake() {
	if l.dead || l.frozen || l.gone || l.stepping {
		return
	}
	if !l.ready {
		l.enter()
		return
	}
	waiting := l.boundary()
	if l.dead || l.gone {
		return
	}
	if waiting != l.waiting {
		l.waiting = waiting
		l.report(0)
	}
	if waiting != "" {
		return
	}
	l.stepping = true
	l.s.clock.after(l.s.jitter(l.pace), l.stepped)
}

func (l *learner) stepped() {
	if l.dead || l.hung {
		return
	}
	if l.frozen {
		l.s.clock.after(100*time.Millisecond, l.stepped)
		return
	}
	l.stepping, l.idle = false, false
	n, retry := 0, false
	for n < min(int(l.s.cfg.StepSamples), len(l.lease)) && (n == 0 || l.lease[n].retry == retry) {
		l.trained, retry = append(l.trained, l.lease[n].sample), l.lease[n].retry
		n++
	}
	l.lease = l.lease[n:]
	l.step++
	l.judge(int64(n), retry)
	l.seconds = l.pace.Seconds()
	l.report(l.seconds)
	l.wake()
}

// judge is the spike rule with a die in place of losses.
func (l *learner) judge(n int64, retry bool) {
	in := coord.Spiked{
		Incarnation: l.inc, Step: l.step, Position: l.position() - n, Samples: n, Retry: retry, Verdict: spike.Apply, Finite: l.s.chance(0.7),
	}
	if l.s.chance(l.s.spikes) || retry && l.s.chance(0.5) {
		switch {
		case !retry:
			in.Verdict = spike.Withhold
		case in.Finite:
			in.Verdict = spike.HalfRate
		default:
			in.Verdict = spike.Skip
		}
	}
	hole := in.Verdict == spike.Withhold || in.Verdict == spike.Skip
	for range n {
		l.holes = append(l.holes, hole)
	}
	if in.Verdict != spike.Apply {
		l.kept = append(l.kept, in)
		l.input(in)
	}
}

// applied is the samples from a position on that it has applied.
func (l *learner) applied(from int64) (samples []int64) {
	for i := from; i < l.position(); i++ {
		if !l.holes[i] {
			samples = append(samples, l.trained[i])
		}
	}
	return samples
}

func (l *learner) report(seconds float64) {
	p := coord.Progress{Incarnation: l.inc, Step: l.step, Position: l.position(), StepSeconds: seconds, Waiting: l.waiting}
	tokens := int64(len(l.applied(0)))
	l.send(func() {
		l.s.decide(p)
		l.s.exchange(syncer.Progress{Incarnation: p.Incarnation, Tokens: tokens})
	})
}

// beat is the heartbeat, which goes on while the loop hangs.
func (l *learner) beat() {
	if l.dead || l.s.over(l.era) {
		return
	}
	if l.ready && !l.frozen {
		l.report(l.seconds)
	}
	l.s.clock.after(time.Second, l.beat)
}

// enter waits for the welcome and every fragment, then says Ready.
func (l *learner) enter() {
	for len(l.inbox) > 0 && l.seeded < len(l.fragments) {
		m := l.inbox[0]
		l.inbox = l.inbox[1:]
		switch m := m.(type) {
		case welcome:
			l.restore = m.restore
		case seedMsg:
			l.fragments[m.fragment].version = m.version
			l.seeded++
		case rejectedMsg:
			l.die("rejected", 0)
			return
		default:
			l.note(m)
		}
	}
	if l.seeded < len(l.fragments) {
		return
	}
	if l.restore != nil {
		l.take(l.restore)
	}
	l.ready = true
	l.report(0)
	l.send(func() { l.s.isReady(l) })
	l.wake()
}

// take installs a saved state. Fragments that have moved on since are taken from
// the syncer; when all have, it trains again what is not in the model.
func (l *learner) take(r *restore) {
	keep, position := make([]bool, len(l.fragments)), r.committed
	for p, f := range l.fragments {
		if keep[p] = r.keep[p] && r.saved.fragments[p].version == f.version; keep[p] {
			position = r.position
		}
	}
	l.step = r.saved.step
	l.trained = slices.Clone(r.saved.trained[:min(int64(len(r.saved.trained)), position)])
	l.holes = slices.Clone(r.saved.holes[:len(l.trained)])
	for l.position() < position {
		l.trained, l.holes = append(l.trained, -1), append(l.holes, false)
	}
	l.leased = position
	for p, f := range l.fragments {
		f.sentStep, f.sentPosition = l.step, l.position()
		if keep[p] {
			f.sentStep, f.sentPosition = r.saved.fragments[p].sentStep, r.saved.fragments[p].sentPosition
		}
	}
}

// boundary is what happens between two steps. It returns what the learner waits for.
func (l *learner) boundary() string {
	for len(l.inbox) > 0 {
		m := l.inbox[0]
		l.inbox = l.inbox[1:]
		if _, ok := m.(rejectedMsg); ok {
			l.die("rejected", 0)
			return ""
		}
		if _, ok := m.(stopMsg); ok {
			l.dead = true
			return ""
		}
		l.note(m)
	}
	for _, m := range l.seeds {
		f := l.fragments[m.fragment]
		f.version, f.sentStep, f.sentPosition = m.version, l.step, l.position()
	}
	l.seeds = nil
	flushing := l.leaving || (l.dry && len(l.lease) == 0)
	if !l.adopt(flushing) {
		return "a verdict"
	}
	l.answer()
	l.save()
	if flushing {
		return l.flush()
	}
	if len(l.lease) > 0 {
		return ""
	}
	if !l.asked {
		l.asked = true
		l.input(coord.WantsWork{Incarnation: l.inc})
	}
	return "samples"
}

func (l *learner) note(m any) {
	switch m := m.(type) {
	case backMsg:
		l.asked, l.idle = false, false
		for _, f := range l.fragments {
			if f.flight != nil && f.flight.verdict == nil {
				l.sendFlight(f.flight)
			}
		}
	case leaseMsg:
		l.extend(m)
	case callMsg:
		l.calls = slices.DeleteFunc(l.calls, func(c syncer.Call) bool { return c.Fragment == m.Fragment })
		l.calls = append(l.calls, m.Call)
	case verdictMsg:
		f := l.fragments[m.key.Fragment]
		if f.flight == nil || f.sequence != m.key.Sequence || f.flight.verdict != nil {
			return
		}
		if m.ruling == syncer.RuledResend {
			f.flight.contribution.Damaged = false
			l.sendFlight(f.flight)
			return
		}
		f.flight.verdict = &m
	case seedMsg:
		l.seeds = append(l.seeds, m)
	case captureMsg:
		l.capture = &m
	}
}

// extend adds to the lease what it does not have yet. One that leaves a hole went
// out before the coordinator knew that the stream had been broken: the end of the
// lease comes again.
func (l *learner) extend(m leaseMsg) {
	if m.position > l.leased {
		return
	}
	l.asked, l.idle, l.dry = false, false, !m.more
	if m.revoke {
		l.lease = nil
	}
	at := m.position
	for _, r := range m.ranges {
		for n := r.From; n < r.To; n++ {
			if at == l.leased {
				l.lease = append(l.lease, item{n, r.Retry()})
				l.leased++
			}
			at++
		}
	}
}

func (l *learner) adopt(flushing bool) bool {
	free := true
	for _, f := range l.fragments {
		if f.flight == nil {
			continue
		}
		due := flushing || l.step >= f.sentStep+l.s.tau
		switch {
		case due && f.flight.verdict != nil:
			if f.flight.verdict.ruling != syncer.RuledRefused {
				f.version = f.flight.verdict.version
			}
			f.flight = nil
		case due && l.s.strict && !flushing:
			free = false
		}
	}
	return free
}

func (l *learner) answer() {
	calls := l.calls
	l.calls = nil
	for _, c := range calls {
		f := l.fragments[c.Fragment]
		switch {
		case f.flight != nil:
			l.calls = append(l.calls, c)
		case len(l.applied(f.sentPosition)) == 0:
			l.send(func() {
				l.s.exchange(syncer.Passed{Incarnation: l.inc, Fragment: c.Fragment, Round: c.Round})
			})
		default:
			l.contribute(c.Fragment, false)
		}
	}
}

func (l *learner) contribute(p int, flush bool) {
	f := l.fragments[p]
	f.sequence++
	f.flight = &flight{
		contribution: syncer.Contribution{
			Era: uint32(l.era), Incarnation: l.inc, Fragment: p, Sequence: f.sequence, Base: f.version,
			FromStep: f.sentStep, ToStep: l.step, FromPosition: f.sentPosition, ToPosition: l.position(),
			Flush: flush, Damaged: l.s.chance(l.s.noise),
		},
		samples: l.applied(f.sentPosition),
	}
	f.flight.contribution.Tokens = int64(len(f.flight.samples))
	f.flight.contribution.Withheld = l.position() - f.sentPosition - f.flight.contribution.Tokens
	if l.defects > 0 {
		l.defects--
		f.flight.contribution.Defect = "spoilt"
	}
	f.sentStep, f.sentPosition = l.step, l.position()
	l.sendFlight(f.flight)
	if l.s.chance(l.s.noise) {
		l.sendFlight(f.flight) // twice
	}
}

func (l *learner) sendFlight(f *flight) {
	c, samples := f.contribution, f.samples
	l.send(func() { l.s.contribution(l, c, samples) })
}

func (l *learner) flush() string {
	under := false
	for p, f := range l.fragments {
		if f.flight == nil && len(l.applied(f.sentPosition)) > 0 {
			l.contribute(p, true)
		}
		under = under || f.flight != nil
	}
	switch {
	case under:
		return "a verdict"
	case l.leaving:
		l.input(coord.Left{Incarnation: l.inc, Why: "asked to leave"})
		l.s.clock.after(time.Second, func() { l.die("left", time.Millisecond) })
		l.gone = true
		return ""
	case !l.idle:
		l.idle = true
		l.input(coord.Idle{Incarnation: l.inc, Position: l.position()})
	}
	return "work"
}

// save captures the learner's state once nothing is under way.
func (l *learner) save() {
	if l.capture == nil {
		return
	}
	for _, f := range l.fragments {
		if f.flight != nil {
			return
		}
	}
	c := &saved{checkpoint: l.capture.checkpoint, step: l.step, trained: slices.Clone(l.trained), holes: slices.Clone(l.holes)}
	for _, f := range l.fragments {
		c.fragments = append(c.fragments, *f)
	}
	l.capture = nil
	l.s.clock.after(l.s.jitter(300*time.Millisecond), func() {
		l.send(func() { l.s.captured(l, c) })
	})
}

// breakLink loses what is under way in both directions; the learner dials again.
func (l *learner) breakLink(d time.Duration) {
	if !l.linked || l.dead {
		return
	}
	l.linked = false
	l.up.cut()
	l.down.cut()
	l.s.clock.after(l.s.jitter(100*time.Millisecond), func() { l.s.decideIn(l.era, coord.Disconnected{Incarnation: l.inc}) })
	l.s.clock.after(d, func() {
		if l.dead || l.s.over(l.era) {
			return
		}
		if l.expelled {
			l.die("nobody answers", 0)
			return
		}
		l.linked = true
		l.input(coord.Joined{Incarnation: l.inc, Island: l.island})
		l.send(func() { l.s.exchange(syncer.Back{Incarnation: l.inc}) })
		for _, in := range l.kept {
			l.input(in)
		}
		l.inbox = append(l.inbox, backMsg{})
		l.wake()
	})
}

// die ends the process; the parent hears of it after d, or never when d < 0.
func (l *learner) die(why string, d time.Duration) {
	if l.dead {
		return
	}
	l.dead, l.linked = true, false
	l.up.cut()
	l.down.cut()
	switch {
	case d >= 0 && l.s.comes(l.island): // nobody has its process; its stream breaks
		l.s.clock.after(d, func() { l.s.decideIn(l.era, coord.Disconnected{Incarnation: l.inc}) })
	case d >= 0:
		l.s.clock.after(d, func() { l.s.decideIn(l.era, coord.Exited{Incarnation: l.inc, Why: why}) })
	}
}

func (l *learner) String() string {
	out := fmt.Sprintf("%s/%d trained %d of %d, waits for %q", l.island, l.inc, l.position(), l.leased, l.waiting)
	for _, m := range []struct {
		is   bool
		word string
	}{{l.dead, "dead"}, {l.frozen, "frozen"}, {l.hung, "hung"}, {l.stepping, "stepping"}, {l.expelled, "expelled"}, {!l.linked, "not connected"}} {
		if m.is {
			out += ", " + m.word
		}
	}
	for p, f := range l.fragments {
		if f.flight != nil {
			out += fmt.Sprintf("; fragment %d: %+v verdict %+v", p, f.flight.contribution, f.flight.verdict)
		}
	}
	return out
}
