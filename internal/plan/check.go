package plan

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/mistura-project/mistura/internal/fault"
)

// Check refuses a layout that the task cannot have, with the choices. Errors are
// *fault.Input that name the degree.
func (l Layout) Check(t Task) error {
	if err := l.Layout.Check(t.Model); err != nil {
		return err
	}
	for _, degree := range []struct {
		name string
		n    int
	}{{"dp", l.DP}, {"cp", l.CP}, {"vpp", l.VPP}, {"micro_batch", l.MicroBatch}} {
		if degree.n < 1 {
			return refuse(degree.name, degree.n, "is no number of ranks, stages or sequences", "use 1 or more")
		}
	}
	if err := l.CheckDP(l.DP * l.CP); err != nil {
		return err
	}
	if l.ZeRO < 0 || l.ZeRO > 3 {
		return refuse("zero", l.ZeRO, "is no stage of ZeRO", "use 0 1 2 3")
	}
	if err := l.checkStages(t.Model.Depth()); err != nil {
		return err
	}
	if t.Sequence%(2*l.CP) != 0 && l.CP > 1 {
		return refuse("cp", l.CP, fmt.Sprintf("does not cut %d tokens into halves of equal work", t.Sequence), fmt.Sprintf("use a divisor of %d", t.Sequence/2))
	}
	return l.checkBatch(t.Batch)
}

func (l Layout) checkStages(depth int) error {
	if l.VPP > 1 && l.PP == 1 {
		return refuse("vpp", l.VPP, "needs a pipeline", "use 1, or pp above 1")
	}
	if most := depth + missingOf(l, depth); l.VPP*l.PP > most {
		return refuse("vpp", l.VPP, fmt.Sprintf("makes %d stages of %d layers", l.VPP*l.PP, depth), fmt.Sprintf("use at most %d", max(1, most/l.PP)))
	}
	if l.Stages == nil {
		return nil
	}
	sum := 0
	for _, n := range l.Stages {
		if n < 1 {
			return refuse("stages", n, "layers are no stage", "give each stage a layer")
		}
		sum += n
	}
	if len(l.Stages) != l.PP || sum != depth {
		return refuse("stages", sum, fmt.Sprintf("layers in %d stages; the model has %d and the layout %d stages", len(l.Stages), depth, l.PP), "give each layer to one stage")
	}
	return nil
}

// missingOf is how many layers embedding and head count for.
func missingOf(l Layout, depth int) int {
	if l.Stages != nil && slices.Equal(l.Stages, EndsShort(depth, l.PP)) {
		return missingFor(depth, l.PP)
	}
	return 0
}

func (l Layout) checkBatch(batch int) error {
	each := l.DP * l.MicroBatch
	if batch >= each && batch%each == 0 {
		return nil
	}
	next := fmt.Sprintf("nearest %d", each)
	if below := batch / each * each; below > 0 {
		next = fmt.Sprintf("nearest %d and %d", below, below+each)
	}
	return refuse("batch", batch, fmt.Sprintf("is not a multiple of %d = micro-batch %d × dp %d", each, l.MicroBatch, l.DP), next)
}

// CheckChips refuses chips that the layout does not divide.
func (l Layout) CheckChips(chips int) error {
	if n := l.TP * l.PP * l.CP; chips%n != 0 {
		degrees := fmt.Sprintf("tp %d × pp %d", l.TP, l.PP)
		if l.CP > 1 {
			degrees += fmt.Sprintf(" × cp %d", l.CP)
		}
		return refuse("chips", chips, fmt.Sprintf("is not a multiple of %d = %s", n, degrees), "choose degrees whose product divides it")
	}
	return nil
}

func refuse(where string, n int, problem, next string) error {
	return &fault.Input{Where: where, Value: strconv.Itoa(n), Problem: problem, Next: next}
}
