package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/wire"
)

// eraRecord opens the coordinator's tape of an era.
type eraRecord struct {
	Kind       string            `json:"kind"` // "era"
	At         time.Time         `json:"at"`
	RunID      string            `json:"run_id"`
	Era        uint32            `json:"era"`
	Protocol   uint32            `json:"protocol"`
	KernelSet  string            `json:"kernel_set"`
	Seed       uint64            `json:"seed"`
	DataDigest string            `json:"data_digest"`
	Run        string            `json:"run_yaml"`
	Numeric    map[string]string `json:"numeric,omitempty"` // what islands emulate, by name; those in fp32 are not in it
	Checkpoint uint64            `json:"from_checkpoint,omitempty"`
	Weights    string            `json:"weights_sha256,omitempty"`
	Casts      []string          `json:"casts,omitempty"`    // of the first weights
	OwnData    bool              `json:"own_data,omitempty"` // islands bring their own: S2 is not tracked
	Undone     []undone          `json:"undone,omitempty"`
}

// undone lists merges of an earlier era that the checkpoint does not hold.
type undone struct {
	Era      uint32 `json:"era"`
	Fragment int    `json:"fragment"`
	From     uint64 `json:"from_version"` // first version that is gone
	To       uint64 `json:"to_version"`
	Tokens   int64  `json:"tokens"`
}

// viewRecord opens a group's tape: who holds the fragments.
type viewRecord struct {
	Kind      string    `json:"kind"` // "view"
	At        time.Time `json:"at"`
	Era       uint32    `json:"era"`
	View      uint64    `json:"view"`
	Primary   string    `json:"primary"`
	Copies    []string  `json:"copies"`
	Fragments []int     `json:"fragments"`
}

// firstView of an era: one syncer holds the group, without copies.
const firstView = 1

// tapePath is the sequence of a writer in an era.
func tapePath(era uint32, writer string) string { return fmt.Sprintf("tape/era-%04d/%s", era, writer) }

// Writers of the tape. There is one group of fragments so far.
const (
	coordWriter = "coord"
	groupWriter = "group-0"
)

// openTapes begins the era on the tape. Of two coordinators that try at the same
// time one finds the first number taken.
func (op *opened) openTapes(ctx context.Context, e eraRecord) error {
	e.Kind, e.At, e.RunID, e.Era, e.Protocol = "era", time.Now(), op.runID, op.era, wire.Protocol
	e.KernelSet, e.Seed, e.DataDigest, e.Run = op.kernel.Name(), op.run.Seed, op.data().Digest, string(op.run.Marshal())
	e.Numeric, e.OwnData = emulations(op.run), op.run.Data.Own
	v := viewRecord{Kind: "view", At: e.At, Era: op.era, View: firstView, Primary: "syncer-0/1", Copies: []string{}}
	for p := range op.bank.fragments {
		v.Fragments = append(v.Fragments, p)
	}
	var err error
	if op.coordTape, err = firstRecord(ctx, op.store, tapePath(op.era, coordWriter), e); err != nil {
		return err
	}
	op.groupTape, err = firstRecord(ctx, op.store, tapePath(op.era, groupWriter), v)
	return err
}

func firstRecord(ctx context.Context, st store.Store, path string, record any) (*store.Sequence, error) {
	seq, before, err := store.OpenSequence(ctx, st, path)
	if err != nil {
		return nil, err
	}
	if len(before) == 0 {
		_, err = seq.Append(ctx, record)
	}
	if len(before) > 0 || errors.Is(err, store.ErrTaken) {
		return nil, &fault.Input{Where: st.Location(), Problem: "another coordinator has just begun this era", Next: "let it run, or wait until it has ended"}
	}
	if err != nil {
		return nil, fmt.Errorf("beginning the tape: %w", err)
	}
	return seq, nil
}

// closeEras ends every sequence of every era, so that nobody can commit to them,
// and lists the merges that are newer than the checkpoint, and what is not undone.
func (op *opened) closeEras(ctx context.Context, tables syncer.Tables) (lost []undone, last uint32, past coord.Past, err error) {
	for last = 1; ; last++ {
		err := store.CloseSequence(ctx, op.store, tapePath(last, coordWriter), last+1, func(s store.Segment) { past = recall(past, s) })
		if err != nil {
			return nil, 0, past, err
		}
		err = store.CloseSequence(ctx, op.store, tapePath(last, groupWriter), last+1, func(s store.Segment) { lost = op.undo(lost, s, last, tables) })
		if err != nil {
			return nil, 0, past, err
		}
		next, err := op.store.List(ctx, tapePath(last+1, ""))
		if err != nil {
			return nil, 0, past, err
		}
		if len(next) == 0 {
			return lost, last, past, nil
		}
		lost = nil // the next era began from a checkpoint of its own
	}
}

// undo adds the merges of a segment that the checkpoint does not hold.
func (op *opened) undo(lost []undone, s store.Segment, era uint32, tables syncer.Tables) []undone {
	for _, raw := range s.Records {
		var r syncer.MergeRecord
		if json.Unmarshal(raw, &r) != nil || r.Kind != "merge" || r.Fragment >= len(tables.Fragments) || r.Version <= tables.Fragments[r.Fragment].Version {
			continue
		}
		var tokens int64
		for _, part := range r.Parts {
			tokens += part.Tokens
		}
		found := false
		for i := range lost {
			if lost[i].Fragment == r.Fragment && lost[i].Era == era {
				lost[i].To, lost[i].Tokens, found = r.Version, lost[i].Tokens+tokens, true
			}
		}
		if !found {
			lost = append(lost, undone{era, r.Fragment, r.Version, r.Version, tokens})
		}
	}
	return lost
}

// recall adds what a segment of the coordinator's tape says of rollbacks and uses of join
// strings: they are not undone with the rest.
func recall(past coord.Past, segment store.Segment) coord.Past {
	for _, raw := range segment.Records {
		var r coord.RollbackRecord
		if json.Unmarshal(raw, &r) == nil && r.Kind == "rollback" {
			past.Rollbacks++
			past.Skipped = append(past.Skipped, r.Skipped...)
		}
		var a coord.ArriveRecord
		if json.Unmarshal(raw, &a) == nil && a.Kind == "arrive" && a.Token != "" {
			if past.Uses == nil {
				past.Uses = map[string]int{}
			}
			past.Uses[a.Token]++
		}
	}
	return past
}
