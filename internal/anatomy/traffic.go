package anatomy

import "fmt"

// Collective is a kind of communication among the ranks of a group.
type Collective string

// The kinds.
const (
	AllReduce     Collective = "all-reduce"
	AllGather     Collective = "all-gather"
	ReduceScatter Collective = "reduce-scatter"
	AllToAll      Collective = "all-to-all"
	Send          Collective = "send"
)

// Message is what ranks of a group say to each other for each token and layer, or of
// gradients for each step.
type Message struct {
	Name       string     `json:"name"`
	Group      string     `json:"group"` // tp, ep, etp, pp, dp
	Collective Collective `json:"collective"`
	Ranks      int        `json:"ranks"`    // of the group
	Forward    int        `json:"forward"`  // how often in the forward pass
	Backward   int        `json:"backward"` // how often in the backward pass
	Bytes      float64    `json:"bytes"`    // of one: the whole tensor that is gathered or summed; what a rank sends of its own to all
	Formula    string     `json:"formula"`
}

// Sent are the bytes that a rank sends of one message: by rings what Thakur et al.
// (IJHPCA 2005) give; of an all-to-all all but its own share.
func (m Message) Sent() float64 {
	others := float64(m.Ranks-1) / float64(m.Ranks)
	switch m.Collective {
	case AllReduce:
		return 2 * others * m.Bytes
	case Send:
		return m.Bytes
	}
	return others * m.Bytes
}

// Sending says in which bytes activations are sent.
type Sending struct {
	Element  int // between tensor-parallel ranks and stages
	Dispatch int // to experts
	Combine  int // back
}

// Traffic is what a layer sends for each token that a tensor-parallel group shares.
func (l Layer) Traffic(hidden int, lay Layout, s Sending) []Message {
	blocks := 2 // attention and MLP
	if l.Experts != nil && l.Experts.Shared.Width == 0 {
		blocks = 1
	}
	messages := lay.tensorTraffic(hidden, blocks, s)
	if l.Experts != nil {
		messages = append(messages, lay.expertTraffic(hidden, *l.Experts, s)...)
	}
	return messages
}

// tensorTraffic: each block is summed forward and its input's gradient backward
// (Shoeybi et al., arXiv 1909.08053, section 3). With sequence parallelism a gather and
// a scatter stand for each sum, and inputs are gathered once more backward (Korthikanti
// et al., arXiv 2205.05198, section 4.2.2).
func (l Layout) tensorTraffic(hidden, blocks int, s Sending) []Message {
	if l.TP == 1 {
		return nil
	}
	t := product(x(s.Element, "bytes"), x(hidden, "width"))
	m := Message{Group: "tp", Ranks: l.TP, Forward: blocks, Backward: blocks, Bytes: float64(t.n), Formula: t.text}
	if l.Whole {
		m.Name, m.Collective = "sums of blocks", AllReduce
		return []Message{m}
	}
	gather, scatter := m, m
	gather.Name, gather.Collective, gather.Backward = "gathers of blocks' inputs", AllGather, 2*blocks
	scatter.Name, scatter.Collective = "scatters of blocks' outputs", ReduceScatter
	return []Message{gather, scatter}
}

// expertTraffic: a token goes to each of its experts and comes back, and so do
// gradients. Tensor-parallel ranks have a share of the tokens each.
func (l Layout) expertTraffic(hidden int, e Experts, s Sending) []Message {
	var messages []Message
	add := func(name, group string, c Collective, ranks, bytes, gathered int) {
		t := product(x(e.TopK, "chosen"), x(bytes, "bytes"), x(hidden, "width"))
		m := Message{Name: name, Group: group, Collective: c, Ranks: ranks, Forward: 1, Backward: 1, Bytes: float64(t.n), Formula: t.text}
		if gathered > 1 {
			m.Bytes *= float64(gathered)
			m.Formula += fmt.Sprintf(" × %d ranks", gathered)
		}
		if l.TP > 1 {
			m.Bytes /= float64(l.TP)
			m.Formula += fmt.Sprintf(" / %d", l.TP)
		}
		messages = append(messages, m)
	}
	if l.EP > 1 {
		add("dispatch to experts", "ep", AllToAll, l.EP, s.Dispatch, 1)
		add("combine of experts", "ep", AllToAll, l.EP, s.Combine, 1)
	}
	if l.ETP > 1 {
		add("gathers of experts' inputs", "etp", AllGather, l.ETP, s.Dispatch, l.ETP)
		add("scatters of experts' outputs", "etp", ReduceScatter, l.ETP, s.Combine, l.ETP)
	}
	return messages
}

// Boundary is what passes between two stages for each token: the stream forward and
// its gradient backward. Each of the tensor-parallel ranks sends its share
// (Narayanan et al., arXiv 2104.04473, section 4.1).
func (d Decoder) Boundary(l Layout, s Sending) []Message {
	if l.PP == 1 {
		return nil
	}
	t := product(x(s.Element, "bytes"), x(d.Hidden, "width"))
	m := Message{Name: "stage to stage", Group: "pp", Collective: Send, Ranks: l.PP, Forward: 1, Backward: 1, Bytes: float64(t.n), Formula: t.text}
	if l.TP > 1 {
		m.Bytes /= float64(l.TP)
		m.Formula += fmt.Sprintf(" / %d", l.TP)
	}
	return []Message{m}
}

// Sync is what the replicas of a rank's parameters exchange (Rajbhandari et al.,
// arXiv 1910.02054, section 7): without ZeRO sums of gradients; in stages 1 and 2 the
// owner's share of the sums, and new weights from the owners, once a step; in stage 3
// weights before the forward and the backward pass, and the shares, of each micro-batch.
func (h Held) Sync(l Layout, f Formats, zero int, replicas Replicas) []Message {
	dense, routed := h.Rank(l.TP, l.EP, l.ETP)
	return append(sync("dense", dense, replicas.Dense, f, zero), sync("experts", routed, replicas.Routed, f, zero)...)
}

func sync(of string, parameters int64, ranks int, f Formats, zero int) []Message {
	if parameters == 0 || ranks < 2 {
		return nil
	}
	message := func(name string, c Collective, bytes, forward, backward int) Message {
		return Message{Name: name + ", " + of, Group: "dp", Collective: c, Ranks: ranks, Forward: forward, Backward: backward,
			Bytes: float64(bytes) * float64(parameters), Formula: fmt.Sprintf("%d bytes × %d parameters", bytes, parameters)}
	}
	if zero == 0 {
		return []Message{message("gradients", AllReduce, f.Gradient, 0, 1)}
	}
	gathers := 0
	if zero == 3 {
		gathers = 1
	}
	return []Message{message("gradients", ReduceScatter, f.Gradient, 0, 1), message("weights", AllGather, f.Weight, 1, gathers)}
}
