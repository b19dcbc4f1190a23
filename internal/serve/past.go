package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
)

// summaryRecord is the last word of a coordinator whose run is over: what it did.
type summaryRecord struct {
	Kind    string         `json:"kind"` // "summary"
	At      time.Time      `json:"at"`
	Summary ledger.Summary `json:"summary"`
}

// keepSummary puts what a run did behind its end on the tape. Without it the end stands there all the same.
func (h *host) keepSummary(sum ledger.Summary, at time.Time) {
	if h.result == nil { // nobody has decided that it is over
		return
	}
	if _, err := h.coordTape.Append(context.WithoutCancel(h.ctx), summaryRecord{"summary", at, sum}); err != nil {
		h.log.Warn("summary_not_kept", "err", err)
	}
}

// Past is a run that nobody coordinates any more.
type Past struct {
	Summary ledger.Summary
	Whole   bool      // it is what the coordinator wrote; else run, era, outcome, reason, tokens and checkpoint are all that is known
	At      time.Time // of its end; zero: none is on the tape
}

// Ended tells of a run what it did, from the tape and the newest whole checkpoint in its folder. Whether
// nobody coordinates it is for the caller to know.
func Ended(ctx context.Context, dir string) (Past, error) {
	st, err := store.OpenFolder(dir)
	if err != nil {
		return Past{}, err
	}
	era, err := lastEra(ctx, st)
	if err != nil {
		return Past{}, err
	}
	if era == 0 {
		return Past{}, &fault.Input{Where: "RUN", Value: dir, Problem: "holds no run: there is no tape", Next: "give the folder of a run"}
	}
	p, err := lastWord(ctx, st, era)
	if err != nil {
		return p, err
	}
	p.Summary.Dir, p.Summary.Checkpoint = dir, nil // the folder may have been moved
	c, _, err := store.Newest(ctx, st)
	if errors.Is(err, store.ErrNoCheckpoint) {
		return p, nil
	}
	var meta Meta
	if err == nil {
		err = c.Meta(&meta)
	}
	if err != nil {
		return p, err
	}
	path := checkpointPath(st, c.Number())
	p.Summary.Checkpoint, p.Summary.Tokens = &path, max(p.Summary.Tokens, meta.Tokens)
	return p, nil
}

// lastEra is the newest on the tape; 0: there is none.
func lastEra(ctx context.Context, st store.Store) (era uint32, err error) {
	for ; ; era++ {
		next, err := st.List(ctx, tapePath(era+1, coordWriter)+"/")
		if err != nil || len(next) == 0 {
			return era, err
		}
	}
}

// lastWord is what the coordinator of an era has left on the tape: its summary, or what its first record
// and its end say.
func lastWord(ctx context.Context, st store.Store, era uint32) (p Past, err error) {
	p.Summary.Outcome, p.Summary.Reason = ledger.RunUnknown, "no end is on the tape"
	for s, err := range store.Scan(ctx, st, tapePath(era, coordWriter)) {
		if err != nil {
			return p, err
		}
		for _, raw := range s.Records {
			if err := p.read(raw); err != nil {
				return p, fmt.Errorf("tape of era %d: %w", era, err)
			}
		}
	}
	return p, nil
}

// read takes in a record; most say nothing here.
func (p *Past) read(raw json.RawMessage) error {
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case "era":
		var r eraRecord
		if err := json.Unmarshal(raw, &r); err != nil {
			return err
		}
		run, err := runfile.Parse("run_yaml", []byte(r.Run))
		if err == nil {
			run, err = run.Resolve()
		}
		p.Summary.RunID, p.Summary.Era = r.RunID, r.Era
		p.Summary.GoalTokens = run.TotalSamples() * int64(run.Train.SequenceTokens)
		return err
	case "end":
		var r coord.EndRecord
		err := json.Unmarshal(raw, &r)
		p.Summary.Outcome, p.Summary.Reason, p.At = ledger.Outcome(r.Outcome), r.Why, r.At
		return err
	case "summary":
		var r summaryRecord
		err := json.Unmarshal(raw, &r)
		p.Summary, p.Whole, p.At = r.Summary, true, r.At
		return err
	}
	return nil
}
