package anatomy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

// Layout says how the chips of an island share a model. A degree of 1 is no split.
type Layout struct {
	TP  int // tensor-parallel ranks
	EP  int // expert-parallel ranks
	ETP int // tensor-parallel ranks of an expert
	PP  int // pipeline stages

	// KVCopies lets more tensor-parallel ranks than there are key and value heads have
	// a copy of one each.
	KVCopies bool
	// Whole keeps norms and what they read whole on every tensor-parallel rank: no
	// sequence parallelism.
	Whole bool
}

// Single is one chip.
func Single() Layout { return Layout{TP: 1, EP: 1, ETP: 1, PP: 1} }

// Check refuses a layout that the model cannot have, with the choices. Errors are
// *fault.Input that name the degree.
func (l Layout) Check(d Decoder) error {
	for _, degree := range []struct {
		name string
		n    int
	}{{"tp", l.TP}, {"ep", l.EP}, {"etp", l.ETP}, {"pp", l.PP}} {
		if degree.n < 1 {
			return refuse(degree.name, degree.n, "is no number of ranks", "use 1 or more")
		}
	}
	if depth := d.Depth(); l.PP > depth {
		return refuse("pp", l.PP, fmt.Sprintf("is more than the %d layers", depth), fmt.Sprintf("use 1 to %d", depth))
	}
	sparse := false
	for _, r := range d.Layers {
		if err := l.checkDense(r.Layer); err != nil {
			return err
		}
		if r.Experts != nil {
			sparse = true
			if err := l.checkExperts(*r.Experts); err != nil {
				return err
			}
		}
	}
	if sparse && l.Whole && l.TP > 1 {
		return refuse("tp", l.TP, "needs sequence parallelism in a model with experts, whose tokens the ranks share", "keep it on, or use 1")
	}
	if !sparse && (l.EP > 1 || l.ETP > 1) {
		return refuse("ep", l.EP*l.ETP, "splits experts, and the model has none", "use 1")
	}
	return nil
}

func (l Layout) checkDense(layer Layer) error {
	a := layer.Attention
	if a.Heads%l.TP != 0 {
		next := "choices " + choices(divisors(a.Heads))
		if a.Latent == nil && a.KVHeads < a.Heads {
			next += fmt.Sprintf("; above %d only with copies of the %d key/value heads (--kv-copies)", a.KVHeads, a.KVHeads)
		}
		return refuse("tp", l.TP, fmt.Sprintf("does not divide the %d heads", a.Heads), next)
	}
	if a.Latent == nil && a.KVHeads%l.TP != 0 && !(l.KVCopies && l.TP%a.KVHeads == 0) {
		fit := slices.DeleteFunc(divisors(a.Heads), func(n int) bool { return a.KVHeads%n != 0 })
		return refuse("tp", l.TP, fmt.Sprintf("does not divide the %d key/value heads", a.KVHeads),
			fmt.Sprintf("at most %d: choices %s; or ask for copies of them (--kv-copies)", fit[len(fit)-1], choices(fit)))
	}
	for _, m := range []struct {
		name  string
		width int
	}{{"MLP", layer.MLP.Width}, {"shared experts", layer.sharedWidth()}} {
		if m.width%l.TP != 0 {
			fit := slices.DeleteFunc(divisors(a.Heads), func(n int) bool { return m.width%n != 0 })
			return refuse("tp", l.TP, fmt.Sprintf("does not divide the width %d of the %s", m.width, m.name), "choices "+choices(fit))
		}
	}
	return nil
}

func (l Layer) sharedWidth() int {
	if l.Experts == nil {
		return 0
	}
	return l.Experts.Shared.Width
}

func (l Layout) checkExperts(e Experts) error {
	if e.Count%l.EP != 0 {
		return refuse("ep", l.EP, fmt.Sprintf("does not divide the %d experts", e.Count), "choices "+choices(divisors(e.Count)))
	}
	if e.Each.Width%l.ETP != 0 {
		return refuse("etp", l.ETP, fmt.Sprintf("does not divide the width %d of an expert", e.Each.Width), "choices "+choices(divisors(e.Each.Width)))
	}
	return nil
}

func refuse(degree string, n int, problem, next string) error {
	return &fault.Input{Where: degree, Value: strconv.Itoa(n), Problem: problem, Next: next}
}

// divisors are those of a positive number, smallest first.
func divisors(n int) []int {
	var all []int
	for i := 1; i <= n; i++ {
		if n%i == 0 {
			all = append(all, i)
		}
	}
	return all
}

func choices(all []int) string {
	var words []string
	for _, n := range all {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, " ")
}

// For is the model as the ranks of a layout hold it: with its vocabulary padded as
// Megatron does, and with a key and value head for each tensor-parallel rank where
// heads are copied.
func (l Layout) For(d Decoder) Decoder {
	d = d.Padded(MegatronMultiple * l.TP)
	d.Layers = slices.Clone(d.Layers)
	for i := range d.Layers {
		a := &d.Layers[i].Attention
		if a.Latent == nil && a.KVHeads < l.TP {
			a.KVHeads = l.TP
		}
	}
	return d
}
