package footprint

import (
	"cmp"
	"slices"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/gate"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
)

// streamBytes is about what a stream's frames and messages take on either end. Measured.
const streamBytes = 8 << 20

// Threads is the number of workers of an island of the run: a container's limit counts,
// not the host's cores (case G17).
func Threads(run runfile.Run, i runfile.Island) int {
	return cmp.Or(i.Threads, max(1, machine.CPUs()/max(1, len(run.Islands))))
}

// island is the process of one island: what packages engine and island hold. Where a
// trainer of the user's computes beside it, only that process is counted, with the memory
// that both share: what the trainer takes, and where, is its own affair. The reference
// learner is this program's, and counts.
func island(run runfile.Run, i runfile.Island) int64 {
	model, largest := sizes(run)
	live := int64(0)
	if native(i) {
		t := run.Train
		live = engine.MemoryOf(run.Model.Config, t.BatchSequences, t.SequenceTokens, Threads(run, i)).Total()
	}
	live += model + // anchors
		2*model + // of every fragment: where the learner was when it sent, and the answer
		model + // contributions under way, one of every fragment
		3*model + // weights and moments while a captured state is written
		2*largest + // one fragment to work on, and one that comes in
		transport.RoomBytes(largest) + // of payloads that have come, for those to come
		streamBytes
	return machine.ProcessBytes(live) + shared(model, i) + reference(run, i)
}

func native(i runfile.Island) bool { return i.Engine == "" || i.Engine == runfile.Native }

// shared is the memory that a trainer's ranks share with the island's process: what each of them
// takes, and what one of those that hold the same gives. Ranks of the reference learner hold the
// whole model each. How a trainer of the user's splits it is not known before it joins: what is
// counted is right for one rank, and for any number among which the model is sharded.
func shared(model int64, i runfile.Island) int64 {
	if native(i) {
		return 0
	}
	return (int64(max(1, i.Ranks)) + 1) * model
}

// parent is the process of coordinator and syncer: what package serve holds.
func parent(run runfile.Run, evalRows int, outside bool) int64 {
	model, largest := sizes(run)
	islands := int64(len(run.Islands))
	live := 2*model + // parameters and outer momentum
		measuring(run, evalRows) +
		gating(run, outside) +
		2*model + // parameters and momentum while a checkpoint is written
		islands*model + // a contribution to every fragment from every island
		islands*model/2 + // answers, which leave as they are made
		4*largest + // a merge: its mean and its result, and their bytes
		transport.RoomBytes(largest) // of contributions that are merged, for those to come
	return machine.ProcessBytes(live)
}

// measuring is the engine that measures the validation loss and the parameters that it
// measures; nothing where an island does that.
func measuring(run runfile.Run, evalRows int) int64 {
	if run.Model.Foreign() || run.Data.Own {
		return 0
	}
	eval := engine.MemoryOf(run.Model.Config, evalRows, run.Train.SequenceTokens, machine.CPUs())
	return eval.Total() - eval.Moments + 4*int64(run.Size())
}

// gating is, where islands are asked at the gate, the weights that a probe is made on, as they are kept
// or were read and on their way, and of a model of ours an engine that emulates the number format that
// an island declares. Outside: some may come from other hosts.
func gating(run runfile.Run, outside bool) int64 {
	trained := func(i runfile.Island) bool { return !native(i) }
	if run.Gate == runfile.GateOff || !outside && !slices.ContainsFunc(run.Islands, trained) {
		return 0
	}
	weights := 2 * 4 * int64(run.Size())
	if run.Model.Foreign() {
		return weights
	}
	probe := engine.MemoryOf(run.Model.Config, gate.Rows, min(run.Train.SequenceTokens, gate.LongestSequence), machine.CPUs())
	return probe.Total() - probe.Moments + weights
}

// sizes are those of the model's parameters and of its largest fragment, in bytes.
func sizes(run runfile.Run) (model, largest int64) {
	for _, f := range fragment.Split(run.Table(), run.Exchange.Fragments) {
		largest = max(largest, 4*int64(f.Size))
	}
	return 4 * int64(run.Size()), largest
}
