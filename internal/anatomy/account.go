package anatomy

import (
	"github.com/mistura-project/mistura/internal/model"
)

// Question is what somebody wants to know of a model.
type Question struct {
	Sequence int
	Full     bool // count attention over all pairs
	Layout   Layout
	DP       int // data-parallel ranks; 0: the least that the experts' ranks need
	Formats  Formats
}

// Account is everything that this package counts of a model, as it is printed.
type Account struct {
	Model      string             `json:"model"`
	Layers     int                `json:"layers"`
	Parameters ParametersAccount  `json:"parameters"`
	Work       WorkAccount        `json:"work"`
	Rank       RankAccount        `json:"rank"`
	Kinds      []LayerAccount     `json:"layer_kinds"`
	Ends       map[Recompute]Ends `json:"activations"`
	Steps      []Message          `json:"stage_traffic"`    // a token
	Sync       map[int][]Message  `json:"gradient_traffic"` // a step, by ZeRO stage; of stage 3 a micro-batch
}

// ParametersAccount are the parameters of the model, vocabulary as published.
type ParametersAccount struct {
	Total   int64      `json:"total"`
	Active  int64      `json:"active"`
	MTP     int64      `json:"mtp"` // of the modules, in neither of those
	Parts   Parameters `json:"parts"`
	Modules Parameters `json:"mtp_parts"`
}

// WorkAccount is what a token costs.
type WorkAccount struct {
	Sequence int                   `json:"sequence"`
	Full     bool                  `json:"full"`
	Forward  float64               `json:"forward"`
	Backward float64               `json:"backward"`
	Parts    Works                 `json:"parts"`
	Again    map[Recompute]float64 `json:"recomputed"`
}

// RankAccount is what the rank with the most parameters has.
type RankAccount struct {
	TP         int            `json:"tp"`
	EP         int            `json:"ep"`
	ETP        int            `json:"etp"`
	PP         int            `json:"pp"`
	DP         int            `json:"dp"`
	Vocabulary int            `json:"vocabulary"` // padded
	Stage      int            `json:"stage"`      // from 0
	Layers     int            `json:"layers"`
	Dense      int64          `json:"dense_parameters"`
	Experts    int64          `json:"expert_parameters"`
	Bytes      int            `json:"bytes_a_parameter"`
	State      []StateAccount `json:"state"`
}

// StateAccount is training state under a stage of ZeRO.
type StateAccount struct {
	ZeRO int `json:"zero"`
	State
	All int64 `json:"total"`
}

// LayerAccount is what each token takes in the layers of one kind.
type LayerAccount struct {
	Name    string               `json:"name"`
	Count   int                  `json:"count"`
	Kept    map[Recompute][]Kept `json:"kept"`
	Traffic []Message            `json:"traffic"`
}

// Ends is what one sequence keeps in all layers, and at the ends of the model.
type Ends struct {
	Layers  float64 `json:"layers_bytes"`
	Head    float64 `json:"head_bytes"`
	Modules float64 `json:"mtp_bytes"`
}

// For answers a question. A layout that the model cannot have is a *fault.Input.
func (q Question) For(d Decoder) (Account, error) {
	if err := q.Layout.Check(d); err != nil {
		return Account{}, err
	}
	if q.DP == 0 {
		q.DP = q.Layout.LeastDP()
	}
	if err := q.Layout.CheckDP(q.DP); err != nil {
		return Account{}, err
	}
	a := Account{Model: d.Name, Layers: d.Depth(), Parameters: parametersOf(d), Work: q.work(d)}
	held := q.Layout.For(d)
	var most Held
	a.Rank, most = q.rank(held)
	a.Kinds, a.Ends = q.layers(held)
	a.Steps = held.Boundary(q.Layout, plainSending())
	a.Sync = map[int][]Message{}
	for _, zero := range ZeROs() {
		a.Sync[zero] = most.Sync(q.Layout, q.Formats, zero, q.Layout.Replicas(q.DP))
	}
	return a, nil
}

// ZeROs lists the stages.
func ZeROs() []int { return []int{0, 1, 2, 3} }

// plainSending is everything in 16 bits.
func plainSending() Sending { return Sending{Element: 2, Dispatch: 2, Combine: 2} }

func parametersOf(d Decoder) ParametersAccount {
	p, m := d.Parameters().gathered(), d.Modules().gathered()
	return ParametersAccount{Total: p.Total(), Active: p.Active(), MTP: m.Total(), Parts: p, Modules: m}
}

// gathered puts the parts of one kind that are held alike into one.
func (p Parameters) gathered() Parameters {
	out := Parameters{}
	type group struct {
		kind  model.Kind
		split Split
	}
	at := map[group]int{}
	for _, part := range p {
		i, ok := at[group{part.Kind, part.Split}]
		if !ok {
			at[group{part.Kind, part.Split}] = len(out)
			out = append(out, part)
			continue
		}
		out[i].Count += part.Count
		out[i].Active += part.Active
		out[i].Formula += " + " + part.Formula
	}
	return out
}

func (q Question) work(d Decoder) WorkAccount {
	c := Convention{Sequence: q.Sequence, Full: q.Full}
	w := d.Work(c)
	a := WorkAccount{Sequence: q.Sequence, Full: q.Full, Forward: w.Forward(), Backward: w.Backward(), Parts: w, Again: map[Recompute]float64{}}
	for _, mode := range Recomputes() {
		a.Again[mode] = d.Whole().Again(mode, c)
	}
	return a
}

// rank finds the stage with the most parameters of a rank, and what it has of which kind.
func (q Question) rank(d Decoder) (RankAccount, Held) {
	l := q.Layout
	r := RankAccount{TP: l.TP, EP: l.EP, ETP: l.ETP, PP: l.PP, DP: q.DP, Vocabulary: d.Vocab, Bytes: q.Formats.Bytes()}
	var most Held
	for i, s := range d.Stages(l.PP) {
		p := s.Parameters()
		if s.Final {
			p = append(p, d.Modules()...)
		}
		h := p.Held()
		if dense, routed := h.Rank(l.TP, l.EP, l.ETP); dense+routed > r.Dense+r.Experts {
			r.Stage, r.Dense, r.Experts, most = i, dense, routed, h
			r.Layers = Decoder{Layers: s.Held}.Depth()
		}
	}
	for _, zero := range ZeROs() {
		state := most.State(l, q.Formats, zero, l.Replicas(q.DP))
		r.State = append(r.State, StateAccount{ZeRO: zero, State: state, All: state.Total()})
	}
	return r, most
}

// layers are the kinds of layers, windows apart, which change nothing of what fused
// attention keeps or sends.
func (q Question) layers(d Decoder) ([]LayerAccount, map[Recompute]Ends) {
	var out []LayerAccount
	for _, l := range kinds(d.Layers, false) {
		a := LayerAccount{Name: "dense", Count: l.Count, Kept: map[Recompute][]Kept{}, Traffic: l.Traffic(d.Hidden, q.Layout, plainSending())}
		if l.Experts != nil {
			a.Name = "experts"
		}
		for _, mode := range Recomputes() {
			a.Kept[mode] = l.Kept(d.Hidden, q.keeping(mode))
		}
		out = append(out, a)
	}
	ends := map[Recompute]Ends{}
	for _, mode := range Recomputes() {
		k, tokens := q.keeping(mode), float64(q.Sequence)
		ends[mode] = Ends{Layers: tokens * d.Whole().LayersKeep(k), Head: tokens * Sum(d.Whole().KeptAtEnds(k)), Modules: tokens * Sum(d.Whole().KeptByModules(k))}
	}
	return out, ends
}

func (q Question) keeping(mode Recompute) Keeping {
	return Keeping{Layout: q.Layout, Recompute: mode, Sequence: q.Sequence, Element: 2}
}
