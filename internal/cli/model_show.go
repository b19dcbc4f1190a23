package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/ledger"
)

// page collects lines of a table; the first column is words, the others numbers.
type page struct {
	strings.Builder
	explain bool
}

// Columns of a table.
const (
	nameColumn   = 32
	numberColumn = 17
	formulaIn    = 6
	stateColumn  = 13 // of training state, which has five
)

// row writes words and numbers.
func (p *page) row(name string, numbers ...string) { p.rowOf(numberColumn, name, numbers...) }

func (p *page) rowOf(width int, name string, numbers ...string) {
	line := pad(name, nameColumn)
	for _, n := range numbers {
		line += strings.Repeat(" ", max(1, width-utf8.RuneCountInString(n))) + n
	}
	p.WriteString(strings.TrimRight(line, " ") + "\n")
}

// formula writes what a number comes from, if somebody asked.
func (p *page) formula(text string) {
	if !p.explain {
		return
	}
	for i, line := range wrapped(text, columns-formulaIn-2) {
		sign := "= "
		if i > 0 {
			sign = "  "
		}
		p.WriteString(strings.Repeat(" ", formulaIn) + sign + line + "\n")
	}
}

func (p *page) note(text string) {
	p.WriteString(strings.Join(wrapped(text, columns), "\n") + "\n")
}

// section begins a table.
func (p *page) section(text string) {
	p.WriteString("\n")
	p.note(text)
}

// showModel writes an account, at most 100 columns wide.
func showModel(out io.Writer, m asked, a anatomy.Account, step *modelStep, explain bool) error {
	p := &page{explain: explain}
	p.describe(m.decoder)
	p.unread(m)
	p.parameters(a.Parameters)
	p.work(a.Work)
	p.state(a.Rank)
	p.activations(a)
	p.traffic(a)
	p.step(step, a.Rank.DP)
	_, err := io.WriteString(out, p.String())
	return err
}

// unread names the fields of a config.json that nobody here knows.
func (p *page) unread(m asked) {
	if len(m.unread) > 0 {
		p.note("Not known, and not counted if they change sizes: " + strings.Join(m.unread, ", ") + ".")
	}
}

// describe says what the model is.
func (p *page) describe(d anatomy.Decoder) {
	vocabulary := fmt.Sprintf("vocabulary %d", d.Vocab)
	if d.Tied {
		vocabulary += ", tied"
	}
	p.note(fmt.Sprintf("%s: %d layers, width %d, %s", d.Name, d.Depth(), d.Hidden, vocabulary))
	for _, k := range d.Kinds() {
		fmt.Fprintf(p, "  %s: %s; %s\n", plural(k.Count, "layer"), heads(k.Attention), blocks(k.Layer))
	}
}

func plural(n int, of string) string {
	if n != 1 {
		of += "s"
	}
	return grouped(int64(n)) + " " + of
}

func heads(a anatomy.Attention) string {
	text := fmt.Sprintf("%d heads of %d", a.Heads, a.QueryDim())
	switch {
	case a.Latent != nil:
		text += fmt.Sprintf(", latent %d", a.Latent.KVRank)
	case a.KVHeads != a.Heads:
		text += fmt.Sprintf(", %d of keys and values", a.KVHeads)
	}
	if a.Window > 0 {
		text += fmt.Sprintf(", window %d", a.Window)
	}
	return text
}

func blocks(l anatomy.Layer) string {
	if l.Experts == nil {
		return fmt.Sprintf("MLP %d", l.MLP.Width)
	}
	e := l.Experts
	text := fmt.Sprintf("%d experts of %d, %d chosen", e.Count, e.Each.Width, e.TopK)
	if e.Shared.Width > 0 {
		text += fmt.Sprintf(", shared %d", e.Shared.Width)
	}
	return text
}

func (p *page) parameters(a anatomy.ParametersAccount) {
	p.WriteString("\n")
	p.row("parameters", "all", "active", "on ranks")
	list := func(parts anatomy.Parameters, of string) {
		for _, part := range parts {
			p.row(string(part.Kind)+of, grouped(part.Count), grouped(part.Active), heldAs(part.Split))
			p.formula(part.Formula)
		}
	}
	list(a.Parts, "")
	p.row("in all", grouped(a.Total), grouped(a.Active))
	p.row("", anatomy.Count(a.Total), anatomy.Count(a.Active))
	if p.explain {
		list(a.Modules, ", MTP modules")
	}
	if a.MTP > 0 {
		p.row("MTP modules, not in that", grouped(a.MTP))
	}
}

// heldAs says which flag divides a parameter.
func heldAs(s anatomy.Split) string {
	switch s {
	case anatomy.Tensor:
		return "cut by tp"
	case anatomy.Routed:
		return "cut by ep, etp"
	}
	return "whole"
}

// grouped writes a whole number with its thousands apart.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

func (p *page) work(w anatomy.WorkAccount) {
	kind := "causal attention"
	if w.Full {
		kind = "attention over all pairs"
	}
	p.section(fmt.Sprintf("Work of a token in a sequence of %d, %s", w.Sequence, kind))
	p.row("work", "forward", "backward", "share")
	all := w.Forward + w.Backward
	for _, part := range w.Parts {
		p.row(part.Name, anatomy.Operations(part.Forward), anatomy.Operations(part.Backward), fmt.Sprintf("%.1f %%", 100*(part.Forward+part.Backward)/all))
		p.formula(part.Formula)
	}
	p.row("in all, "+anatomy.Operations(all), anatomy.Operations(w.Forward), anatomy.Operations(w.Backward))
	for _, mode := range anatomy.Recomputes()[1:] {
		p.row(string(mode)+" recomputation", "", "+ "+anatomy.Operations(w.Again[mode]), fmt.Sprintf("+ %.1f %%", 100*w.Again[mode]/all))
	}
}

func (p *page) state(r anatomy.RankAccount) {
	text := fmt.Sprintf("Training state of a rank: tp %d, ep %d, etp %d, pp %d, dp %d; %s parameters", r.TP, r.EP, r.ETP, r.PP, r.DP, anatomy.Count(r.Dense+r.Experts))
	if r.Experts > 0 {
		text += fmt.Sprintf(", %s of them experts'", anatomy.Count(r.Experts))
	}
	text += fmt.Sprintf("; %d bytes each; vocabulary padded to %d", r.Bytes, r.Vocabulary)
	if r.PP > 1 {
		text += fmt.Sprintf("; stage %d of %d, with %s, is the largest", r.Stage+1, r.PP, plural(r.Layers, "layer"))
	}
	p.section(text)
	p.rowOf(stateColumn, "state", "weights", "gradients", "masters", "moments", "in all")
	for _, s := range r.State {
		if s.ZeRO > 0 && r.DP == 1 {
			break // there is nobody to share with
		}
		name := "ZeRO " + strconv.Itoa(s.ZeRO)
		if s.ZeRO == 0 {
			name = "no ZeRO"
		}
		p.rowOf(stateColumn, name, inBytes(float64(s.Weights)), inBytes(float64(s.Gradients)), inBytes(float64(s.Masters)), inBytes(float64(s.Moments)), inBytes(float64(s.All)))
	}
}

func inBytes(n float64) string { return ledger.Bytes(int64(n)) }

// inGiB writes device memory, of which vendors mean GiB when they say GB.
func inGiB(n float64) string { return fmt.Sprintf("%.1f GiB", n/(1<<30)) }

// activations shows what is kept under each mode of recomputation.
func (p *page) activations(a anatomy.Account) {
	p.section("Activations of a token on a rank, 16 bit, fused attention, without dropout; recomputed is:")
	var names []string
	modes := anatomy.Recomputes()
	for _, mode := range modes {
		names = append(names, string(mode))
	}
	p.row("activations", names...)
	for _, kind := range a.Kinds {
		var sums []string
		for _, mode := range modes {
			sums = append(sums, inBytes(anatomy.Sum(kind.Kept[mode])))
		}
		p.row("a layer, "+kind.Name, sums...)
		for _, kept := range kind.Kept[anatomy.NoRecompute] {
			p.formula(kept.Name + ": " + kept.Formula)
		}
	}
	var layers, ends, modules []string
	for _, mode := range modes {
		layers, ends, modules = append(layers, inBytes(a.Ends[mode].Layers)), append(ends, inBytes(a.Ends[mode].Head)), append(modules, inBytes(a.Ends[mode].Modules))
	}
	p.row(fmt.Sprintf("all layers, %d tokens", a.Work.Sequence), layers...)
	p.row(fmt.Sprintf("head and logits, %d tokens", a.Work.Sequence), ends...)
	if a.Parameters.MTP > 0 {
		p.row(fmt.Sprintf("MTP modules, %d tokens", a.Work.Sequence), modules...)
	}
}

// traffic shows what ranks send each other; nothing where there is one.
func (p *page) traffic(a anatomy.Account) {
	head := false
	show := func(of, per string, messages []anatomy.Message) {
		for _, m := range messages {
			if !head {
				p.section("What a rank sends, in 16 bit; all but its own share, sums and gathers by rings:")
				p.row("communication", "forward", "backward", "group", "of")
				head = true
			}
			p.row(m.Name, inBytes(float64(m.Forward)*m.Sent()), inBytes(float64(m.Backward)*m.Sent()), fmt.Sprintf("%s %d", m.Group, m.Ranks), per)
			p.formula(of + string(m.Collective) + ", " + m.Formula)
		}
	}
	for _, kind := range a.Kinds {
		show(kind.Name+" layer: ", "token, layer", kind.Traffic)
	}
	show("", "token", a.Steps)
	show("ZeRO 1: ", "step", a.Sync[1])
}
