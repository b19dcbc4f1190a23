package huggingface

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/model"
)

// names are a family's names of tensors; those of a layer follow its prefix.
type names struct {
	embedding, norm, head  string
	layer                  string // with %d for the layer's number
	attentionNorm, mlpNorm string
	queryKeyValue          string // one tensor, rows of q above those of k above those of v; empty: three tensors
	query, key, value      string
	output                 string
	queryNorm, keyNorm     string
	router, bias           string
	shared                 string // prefix
}

// Names inside a layer that the families spell alike.
const (
	expertsPrefix = "mlp.experts."
	densePrefix   = "mlp."
	gateUpGroup   = "mlp.experts.gate_up_proj" // [E, 2F, D]: of each expert, gate above up
	downGroup     = "mlp.experts.down_proj"    // [E, D, F]
)

// The three matrices of an MLP, here and there.
func mlpNames() [3][2]string {
	return [3][2]string{{"gate", "gate_proj.weight"}, {"up", "up_proj.weight"}, {"down", "down_proj.weight"}}
}

// fileTensor is a tensor as a family's files hold it: whole tensors of the model, one
// behind the other.
type fileTensor struct {
	name  string
	shape []int
	parts []model.Tensor // none: zeros
	fp32  bool           // in any export
}

func (t fileTensor) size() int {
	n := 1
	for _, extent := range t.shape {
		n *= extent
	}
	return n
}

// perVocab reports whether the rows of a tensor are tokens.
func (t fileTensor) perVocab() bool {
	return len(t.parts) == 1 && (t.parts[0].Kind == model.Embedding || t.parts[0].Kind == model.Head)
}

// fileBuilder lists a family's tensors for one model, in the order of the model.
type fileBuilder struct {
	names   names
	grouped bool
	cfg     model.Config
	tensors map[string]model.Tensor
	out     []fileTensor
}

// fileTensors lists the tensors of a model as a family's files hold them. The
// router's running statistics are state of training and have no place there.
func (fam family) fileTensors(c model.Config, grouped bool) []fileTensor {
	b := &fileBuilder{names: fam.names, grouped: grouped, cfg: c, tensors: map[string]model.Tensor{}}
	for _, t := range c.Tensors() {
		b.tensors[t.Name] = t
	}
	b.add(b.names.embedding, "embedding")
	for l := range c.Layers {
		b.layer(l)
	}
	b.add(b.names.norm, "norm")
	if !c.TiedEmbeddings {
		b.add(b.names.head, "head")
	}
	return b.out
}

// add lists a tensor that is made of tensors of the model, which are stacked by rows.
func (b *fileBuilder) add(name string, parts ...string) {
	t := fileTensor{name: name}
	for _, part := range parts {
		t.parts = append(t.parts, b.tensors[part])
	}
	t.shape = append(t.shape, t.parts[0].Shape...)
	for _, part := range t.parts[1:] {
		t.shape[0] += part.Shape[0]
	}
	t.fp32 = t.parts[0].Kind == model.State
	b.out = append(b.out, t)
}

func (b *fileBuilder) layer(l int) {
	there, here := fmt.Sprintf(b.names.layer, l), "layers."+strconv.Itoa(l)+"."
	b.add(there+b.names.attentionNorm, here+"attention.norm")
	b.attention(there, here+"attention.")
	b.add(there+b.names.mlpNorm, here+"mlp.norm")
	if b.cfg.Dense(l) {
		b.mlp(there+densePrefix, here+"dense.")
		return
	}
	b.add(there+b.names.router, here+"router")
	b.bias(there, here)
	if b.grouped {
		b.group(there, here)
	} else {
		for e := range b.cfg.Experts {
			b.mlp(there+expertsPrefix+strconv.Itoa(e)+".", here+"experts."+strconv.Itoa(e)+".")
		}
	}
	if b.cfg.SharedExperts > 0 {
		b.mlp(there+b.names.shared, here+"shared.")
	}
}

func (b *fileBuilder) attention(there, here string) {
	if b.names.queryKeyValue != "" {
		b.add(there+b.names.queryKeyValue, here+"q", here+"k", here+"v")
	} else {
		b.add(there+b.names.query, here+"q")
		b.add(there+b.names.key, here+"k")
		b.add(there+b.names.value, here+"v")
	}
	b.add(there+b.names.output, here+"o")
	if b.cfg.QKNorm {
		b.add(there+b.names.queryNorm, here+"q_norm")
		b.add(there+b.names.keyNorm, here+"k_norm")
	}
}

// bias lists the router's bias. Where the family's code has one and the model has
// not, zeros stand in the file: that code would leave its own undefined.
func (b *fileBuilder) bias(there, here string) {
	switch {
	case b.cfg.RouterBias:
		b.add(there+b.names.bias, here+"router_bias")
	case b.cfg.Router == model.Sigmoid:
		b.out = append(b.out, fileTensor{name: there + b.names.bias, shape: []int{b.cfg.Experts}, fp32: true})
	}
}

func (b *fileBuilder) mlp(there, here string) {
	for _, m := range mlpNames() {
		b.add(there+m[1], here+m[0])
	}
}

// group lists the experts of a layer as two tensors with a leading extent of experts.
func (b *fileBuilder) group(there, here string) {
	gateUp := fileTensor{name: there + gateUpGroup, shape: []int{b.cfg.Experts, 2 * b.cfg.ExpertFFN, b.cfg.Dim}}
	down := fileTensor{name: there + downGroup, shape: []int{b.cfg.Experts, b.cfg.Dim, b.cfg.ExpertFFN}}
	for e := range b.cfg.Experts {
		prefix := here + "experts." + strconv.Itoa(e) + "."
		gateUp.parts = append(gateUp.parts, b.tensors[prefix+"gate"], b.tensors[prefix+"up"])
		down.parts = append(down.parts, b.tensors[prefix+"down"])
	}
	b.out = append(b.out, gateUp, down)
}

// isGroup reports whether a name in a file is that of all experts of a layer.
func isGroup(name string) bool {
	return strings.HasSuffix(name, "."+gateUpGroup) || strings.HasSuffix(name, "."+downGroup)
}
