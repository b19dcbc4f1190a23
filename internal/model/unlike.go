package model

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

// Named is a tensor of a trainer's own model, as the trainer tells of it.
type Named struct {
	Name  string
	Shape []int    // extents, outermost first; none: one element
	State bool     // no gradient reaches it
	Tied  []string // other names of the same tensor in the trainer's model
}

// Unlike says by which parameter a trainer's model is not the run's, in words of somebody
// who wrote the trainer; nil when both have the same parameters. The order is free.
func Unlike(run []Tensor, own []Named) error {
	byName, tied := map[string]Named{}, map[string]string{}
	for _, t := range own {
		byName[t.Name] = t
		for _, other := range t.Tied {
			tied[other] = t.Name
		}
	}
	inRun := map[string]bool{}
	for _, t := range run {
		inRun[t.Name] = true
	}
	var first *fault.Input
	wrong := 0
	note := func(found *fault.Input) {
		if found == nil {
			return
		}
		if wrong++; first == nil {
			first = found
		}
	}
	for _, t := range run {
		note(compare(t, byName, tied, inRun))
	}
	for _, t := range own {
		if !inRun[t.Name] {
			note(surplus(t, run))
		}
	}
	if first == nil {
		return nil
	}
	if hint := prefixed(run, own); hint != "" {
		first.Next = hint
	}
	if wrong > 1 {
		first.Problem += fmt.Sprintf(" (and %d more parameters differ)", wrong-1)
	}
	return first
}

func badParameter(name, problem, next string) *fault.Input {
	return &fault.Input{Where: "parameter", Value: name, Problem: problem, Next: next}
}

const joinAlike = "train the model that the run is of, or start a run of this one"

// compare is what is wrong with the trainer's counterpart of a tensor of the run.
func compare(t Tensor, byName map[string]Named, tied map[string]string, inRun map[string]bool) *fault.Input {
	have, there := byName[t.Name]
	kind := map[bool]string{true: "a buffer without gradient", false: "a parameter with gradient"}
	switch to := tied[t.Name]; {
	case !there && to != "" && inRun[to]:
		return badParameter(t.Name, fmt.Sprintf("is tied to %s in this model; in the run's model it is a parameter of its own, of shape %v", to, t.Shape),
			"untie it here, or start a run in which it is tied")
	case !there && to != "":
		return badParameter(t.Name, fmt.Sprintf("is tied to %s in this model, and known by that name; the run knows it as %s", to, t.Name),
			"tie it the other way round, so that "+t.Name+" comes first")
	case !there:
		return badParameter(t.Name, fmt.Sprintf("this model lacks it; the run's model has it with shape %v", t.Shape), joinAlike)
	case !slices.Equal(have.Shape, t.Shape):
		return badParameter(t.Name, fmt.Sprintf("has shape %v here and %v in the run's model", shown(have.Shape), shown(t.Shape)), joinAlike)
	case have.State != (t.Kind == State):
		return badParameter(t.Name, fmt.Sprintf("is %s here and %s in the run's model", kind[have.State], kind[t.Kind == State]), "declare it the same way on both sides")
	}
	return nil
}

// surplus is what to say of a parameter that the run does not have. Where the run's
// model has it tied to another, that one has its shape.
func surplus(t Named, run []Tensor) *fault.Input {
	problem := fmt.Sprintf("the run's model does not have it; it has shape %v here", shown(t.Shape))
	for _, r := range run {
		if len(t.Shape) > 1 && slices.Equal(r.Shape, t.Shape) && (r.Kind == Embedding || strings.Contains(r.Name, "emb")) {
			return badParameter(t.Name, problem, "tie it to "+r.Name+" if the run's model has them tied, or start a run of this model")
		}
	}
	return badParameter(t.Name, problem, joinAlike)
}

// shown is a shape for a message: of a scalar too.
func shown(shape []int) []int {
	if shape == nil {
		return []int{}
	}
	return shape
}

// prefixed tells of a wrapper around the model on one side: all names of one side are
// those of the other with something in front.
func prefixed(run []Tensor, own []Named) string {
	if len(run) == 0 || len(run) != len(own) {
		return ""
	}
	var theirs, ours []string
	for i := range run {
		theirs, ours = append(theirs, run[i].Name), append(ours, own[i].Name)
	}
	slices.Sort(theirs)
	slices.Sort(ours)
	if p := front(ours, theirs); p != "" {
		return fmt.Sprintf("all names begin with %q here: give the model inside of the wrapper", p)
	}
	if p := front(theirs, ours); p != "" {
		return fmt.Sprintf("all names begin with %q in the run: give the model with that wrapper around it", p)
	}
	return ""
}

// front is what stands in front of every name of long as it is in short, or nothing.
func front(long, short []string) string {
	p, ok := strings.CutSuffix(long[0], short[0])
	if !ok || p == "" {
		return ""
	}
	for i := range long {
		if long[i] != p+short[i] {
			return ""
		}
	}
	return p
}
