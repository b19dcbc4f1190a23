package ledger

import (
	"cmp"
	"fmt"
)

// Fleet is how a run stands right now: what "mistura status" shows, and its JSON object.
// Keys are only ever added. A value that is unknown is null.
type Fleet struct {
	RunID           string   `json:"run_id"`
	Dir             string   `json:"dir"` // on the coordinator's host
	Era             uint32   `json:"era"`
	Seconds         float64  `json:"seconds"` // since the era began
	Tokens          int64    `json:"tokens"`  // committed
	GoalTokens      int64    `json:"goal_tokens"`
	TokensPerSecond Value    `json:"tokens_per_second"`
	Loss            Value    `json:"loss"`       // mean over the islands that train, each one's last step, nats per token
	ValidLoss       Value    `json:"valid_loss"` // newest
	Merges          int      `json:"merges"`
	Versions        []uint64 `json:"versions"` // by fragment, of this era; 0: not merged in it
	OwnData         bool     `json:"own_data"` // islands bring their own: which samples are in the model is not tracked (S2)
	Checkpoint      *string  `json:"checkpoint"`
	Paused          string   `json:"paused"`  // why merges wait; empty: they do not
	Held            string   `json:"held"`    // why saves wait; empty: they do not
	Waiting         string   `json:"waiting"` // why nobody trains; empty: somebody does
	Islands         []Member `json:"islands"`
}

// Member is one island in it.
type Member struct {
	Name             string `json:"name"`
	Incarnation      uint64 `json:"incarnation"`
	State            State  `json:"state"`
	Reason           string `json:"reason"` // of the last departure
	Engine           string `json:"engine"`
	Device           string `json:"device"` // empty: not said
	Ranks            int    `json:"ranks"`  // processes that compute together; 0: not said
	Kind             string `json:"kind"`   // those of one kind are compared with each other
	Host             string `json:"host"`   // that it came from; empty: started here
	Restarts         int    `json:"restarts"`
	Unrestored       string `json:"unrestored"`  // why its saved state was not taken over in this era; empty: it was, or there was none
	Gate             string `json:"gate"`        // passed, recorded, skipped, refused or pending; empty: it has not come
	GateReason       string `json:"gate_reason"` // of the last decision
	Tokens           int64  `json:"tokens"`      // trained, by all incarnations of this era
	Steps            int64  `json:"steps"`
	TokensPerSecond  Value  `json:"tokens_per_second"`
	Share            Value  `json:"share"`
	Loss             Value  `json:"loss"`         // of the last step
	BusySeconds      Value  `json:"busy_seconds"` // median of a step
	KindSeconds      Value  `json:"kind_seconds"` // what its kind takes for as many tokens
	Ratio            Value  `json:"ratio"`        // of the two
	Straggler        bool   `json:"straggler"`    // slow within its kind
	Stalls           int    `json:"stalls"`       // single long steps among the last
	SecondsSinceStep Value  `json:"seconds_since_step"`
	Why              string `json:"why"` // it is slow, in words; empty: it is not
}

// Fleet is the present state.
func (s *Status) Fleet() Fleet {
	f := Fleet{
		RunID: s.Run.RunID, Dir: s.Run.Dir, Era: s.Run.Era, Seconds: s.Elapsed().Seconds(), Tokens: s.Consumed, GoalTokens: s.Run.Tokens,
		TokensPerSecond: s.TokensPerSecond(), ValidLoss: s.ValidLoss, Merges: s.Merges, Versions: append([]uint64{}, s.Versions...), OwnData: s.Run.OwnData,
		Paused: s.Paused, Held: s.Held, Waiting: s.Waiting(), Islands: []Member{},
	}
	if path := s.Checkpoint; path != "" {
		f.Checkpoint = &path
	}
	var paces []Pace
	var losses mean
	for _, i := range s.Islands {
		paces = append(paces, Pace{i.Name, i.kind(), i.lately})
		if loss, ok := i.Loss.Get(); ok && i.State == Training {
			losses.n++
			losses.level += (loss - losses.level) / float64(losses.n)
		}
	}
	if losses.n > 0 {
		f.Loss = Known(losses.level)
	}
	for n, j := range Judge(paces) {
		f.Islands = append(f.Islands, s.member(s.Islands[n], j))
	}
	return f
}

func (s *Status) member(i Island, j Judgement) Member {
	m := Member{
		Name: i.Name, Incarnation: i.incarnation, State: i.State, Reason: i.Reason, Engine: i.engine(), Device: i.Device, Ranks: i.Ranks, Kind: i.kind(), Host: i.From,
		Restarts: i.Restarts, Unrestored: i.Unrestored, Gate: i.Gate, GateReason: i.GateReason, Tokens: i.Tokens, Steps: i.Steps, TokensPerSecond: i.Speed(s.Now), Share: s.Share(i), Loss: i.Loss,
		BusySeconds: j.Busy, KindSeconds: j.Kind, Ratio: j.Ratio,
	}
	if i.State != Training { // of what is over nothing is slow
		return m
	}
	m.Straggler, m.Stalls, m.Why = j.Straggler, j.Stalls, j.Why()
	if !i.last.IsZero() {
		m.SecondsSinceStep = Known(max(0, s.Now.Sub(i.last).Seconds()))
	}
	return m
}

// Waiting says why nobody trains, or nothing.
func (s *Status) Waiting() string {
	starting := false
	for _, i := range s.Islands {
		switch i.State {
		case Training:
			return ""
		case Starting:
			starting = true
		}
	}
	switch {
	case s.Ended != nil:
		return "the run is over: " + string(s.Ended.Outcome)
	case starting:
		return "islands are starting"
	case s.Run.Outside:
		return "no island is there; the run waits for one to join"
	}
	return "no island trains"
}

// engine is what trains in the island; empty while nobody knows.
func (i Island) engine() string {
	if i.State == Awaited {
		return ""
	}
	return cmp.Or(i.Engine, native)
}

// kind is what decides how fast an island ought to be; empty while nobody knows. In which
// number format a trainer computes it does not say.
func (i Island) kind() string {
	if i.State == Awaited {
		return ""
	}
	kind := i.engine() + " " + cmp.Or(i.Device, "cpu")
	if i.engine() == native {
		kind += " " + cmp.Or(i.Numeric, fp32)
	}
	if i.Ranks > 1 {
		kind += fmt.Sprintf(" x%d", i.Ranks)
	}
	return kind
}
