package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/plan/search"
	"github.com/mistura-project/mistura/internal/runfile"
)

// ownChip is the chip that our own engine trains on.
const ownChip = "cpu"

// writeRun writes the best plan as a new run file.
func (p *planned) writeRun(file string) error {
	r, err := p.run(p.answer.Plans[0])
	if err != nil {
		return err
	}
	p.out = file
	return newFile{flag: "--out", path: file}.writeNew([]byte(p.remarks(p.answer.Plans[0]) + string(r.Marshal())))
}

// run is a plan as a run. Islands on chips of others are trained by trainers of the
// user's, which bring model and data; on CPUs our own engine trains models of ours.
func (p *planned) run(best search.Plan) (runfile.Run, error) {
	r := p.external(best)
	if p.native(best) {
		r = p.ours(best)
	}
	r.Tokens = runfile.Count(p.question.Tokens)
	if best.Period > 0 {
		r.Exchange.PeriodTokens, r.Exchange.Fragments = runfile.Count(best.Period), max(1, best.Fragments)
	}
	return r.Resolve()
}

// native: our own engine can do all of it.
func (p *planned) native(best search.Plan) bool {
	for _, i := range best.Islands {
		if i.Chip != ownChip {
			return false
		}
	}
	return p.model.run != nil
}

// ours is a run of our own engine.
func (p *planned) ours(best search.Plan) runfile.Run {
	r := *p.model.run
	first := best.Islands[0]
	pass := max(1, first.Layout.MicroBatch*first.Layout.DP)
	r.Train.SequenceTokens, r.Train.BatchSequences, r.Train.Accumulate = p.question.Task.Sequence, pass, max(1, first.Batch/pass)
	r.Islands = islandsOf(best, runfile.Island{Pace: 1, Engine: runfile.Native})
	return r
}

// external is a run of trainers of the user's.
func (p *planned) external(best search.Plan) runfile.Run {
	r := runfile.Default()
	r.Name = runName(p.model.decoder.Name)
	r.Model = runfile.Model{From: runfile.FromSeed, Config: model.Config{Name: r.Name}}
	r.Data = runfile.Data{Own: true, ValidShare: r.Data.ValidShare}
	r.Islands = islandsOf(best, runfile.Island{Pace: 1, Engine: runfile.External})
	r.Islands[0].Seed = true
	// a sample is one token: leases are cut and periods counted by it
	r.Train.SequenceTokens, r.Train.Accumulate = 1, 1
	r.Train.BatchSequences = max(1, best.Batch/len(r.Islands)) * p.question.Task.Sequence
	return r
}

// islandsOf lists the islands of a plan, each like the given one but for its name.
func islandsOf(best search.Plan, like runfile.Island) []runfile.Island {
	var all []runfile.Island
	for _, i := range best.Islands {
		for range i.Count {
			like.Name = fmt.Sprintf("%s-%d", i.Pool, 1+len(all))
			all = append(all, like)
		}
	}
	return all
}

// runName is a text as the name of a run.
func runName(text string) string {
	name := strings.Map(func(r rune) rune {
		if runfile.IsName("a" + string(r)) {
			return r
		}
		return '-'
	}, text)
	name = strings.TrimLeft(name, ".-")
	return cmp.Or(name[:min(len(name), 64)], "plan")
}

// remarks say what a run file has no key for.
func (p *planned) remarks(best search.Plan) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "# "+format+"\n", args...) }
	line("Written by mistura plan; all numbers are predicted: %s, %s.", spanOfTime(best.Seconds), costOf(best.Cost, p.answer.Currency))
	line("%s, %s tokens, fleet %s", p.model.decoder.Name, anatomy.Count(p.question.Tokens), p.question.Fleet.File)
	for _, i := range best.Islands {
		line("%d of %s: %d × %s, %d sequences of %d a step in %s, %s; %s a step", i.Count, i.Pool, i.Chips, i.Chip, i.Batch, p.question.Task.Sequence, p.question.Task.Format, inWords(i.Layout), lasting(i.Step.Mid))
	}
	if !p.native(best) {
		line("The layout is for the trainers of the islands to take; they bring model and data (docs/pytorch.md).")
	}
	line("")
	return b.String()
}
