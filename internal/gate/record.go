package gate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// Format is the version of a record.
//
// History (append only):
//
//	1  first version
const Format = 1

// Number formats that a learner may declare without naming a profile of package numeric.
const (
	FP32 = "fp32"
	BF16 = "bf16"
	FP16 = "fp16"
)

// Weights that a probe is made on.
const (
	Sharpened = "sharpened" // the run's first weights, by Sharpen
	Sent      = "sent"      // those that are sent with the record
)

// NoProbe is the reason of an island whose trainer has nothing that could compute a probe.
const NoProbe = "no probe"

// Limits of a record. Those of a real one are far below.
const (
	MaxBytes   = 64 << 20
	maxRows    = 64
	maxTokens  = 1 << 16
	maxTensors = 100_000
	maxChoices = 1 << 24 // over all layers
	maxName    = 256     // bytes
)

// Record is what one engine made of a probe: a learner's answer is one as well.
type Record struct {
	Format  int    `json:"gate_record"`
	Number  string `json:"number_format"` // that it was computed in, as its maker declares it
	Maker   string `json:"maker"`         // what computed it, for people
	Seed    uint64 `json:"seed"`          // of tokens and signs
	Weights string `json:"weights"`       // that the probe is made on: Sharpened or Sent
	Probe   Probe  `json:"probe"`
	// Loss is what training minimises, a target token, in nats: cross-entropy, and
	// whatever the model adds to it.
	Loss float64 `json:"loss"`
	// Choices are the experts that the inputs visited, by layer as many of each input as
	// it visits; a layer without any has none. A learner that answers imposes them and
	// gives those that it would have chosen. None: the model has no experts, or they are
	// not known.
	Choices [][]int32      `json:"choices,omitempty"`
	Own     map[string]Own `json:"own_errors,omitempty"` // by number format
	Tensors []Tensor       `json:"tensors"`              // in model order
}

// Tensor is what is kept of the gradient of one.
type Tensor struct {
	Name    string               `json:"name"`
	Squares float64              `json:"squares"`
	Along   [Projections]float64 `json:"along"`
	Ranks   *Span                `json:"ranks,omitempty"` // that gave it, in an answer; nil: not said, or the only one
	Hosts   *Span                `json:"-"`               // of an island that has several
}

// Span is numbers from First to Last.
type Span struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// with is the span that holds both; nil: there is nothing to hold.
func (s *Span) with(o *Span) *Span {
	if s == nil || o == nil {
		return cmp.Or(s, o)
	}
	return &Span{min(s.First, o.First), max(s.Last, o.Last)}
}

// of reads "rank 3" or "ranks 0 to 7".
func (s *Span) of(what string) string {
	if s.First == s.Last {
		return fmt.Sprintf("%s %d", what, s.First)
	}
	return fmt.Sprintf("%ss %d to %d", what, s.First, s.Last)
}

// Plus is what two that gave pieces of the tensor make together.
func (t Tensor) Plus(o Tensor) Tensor {
	whole := NewTensor(t.Name, t.Sketch().Plus(o.Sketch()))
	whole.Ranks, whole.Hosts = t.Ranks.with(o.Ranks), t.Hosts.with(o.Hosts)
	return whole
}

// givers reads ", as rank 3 on host 1 gave it,", or nothing where nobody has to be told apart.
func (t Tensor) givers() string {
	if t.Ranks == nil {
		return ""
	}
	text := ", as " + t.Ranks.of("rank")
	if t.Hosts != nil {
		text += " on " + t.Hosts.of("host")
	}
	return text + " gave it,"
}

// Check says what no tensor can have.
func (t Tensor) Check() error {
	switch {
	case t.Name == "" || len(t.Name) > maxName:
		return fmt.Errorf("a tensor's name has %d bytes", len(t.Name))
	case !t.Sketch().Finite() || t.Squares < 0:
		return fmt.Errorf("the gradient of tensor %q is not finite", t.Name)
	case t.Ranks != nil && (t.Ranks.First < 0 || t.Ranks.Last < t.Ranks.First):
		return fmt.Errorf("the gradient of tensor %q is of ranks %d to %d", t.Name, t.Ranks.First, t.Ranks.Last)
	}
	return nil
}

// Sketch of the tensor's gradient.
func (t Tensor) Sketch() Sketch { return Sketch{Squares: t.Squares, Along: t.Along} }

// NewTensor names a sketch.
func NewTensor(name string, s Sketch) Tensor {
	return Tensor{Name: name, Squares: s.Squares, Along: s.Along}
}

// Blank is a record that asks for one: nobody has computed the probe before.
func (r Record) Blank() bool {
	return len(r.Tensors) == 0 && r.Loss == 0 && r.Choices == nil && r.Own == nil && r.Number == ""
}

// Encode is the record as it is stored and sent. A number that is not finite has no place in
// a record: the error names where it is.
func (r Record) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// Decode reads a record and refuses one that contradicts itself.
func Decode(data []byte) (Record, error) {
	if len(data) > MaxBytes {
		return Record{}, fmt.Errorf("gate record of %d bytes, at most %d are read", len(data), MaxBytes)
	}
	var version struct {
		Format int `json:"gate_record"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return Record{}, fmt.Errorf("gate record: %w", err)
	}
	if version.Format != Format {
		return Record{}, fmt.Errorf("gate record of format %d, this program reads %d", version.Format, Format)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var r Record
	if err := d.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("gate record: %w", err)
	}
	return r, r.check()
}

// check says what no record can have.
func (r Record) check() error {
	if r.Format != Format {
		return fmt.Errorf("gate record: format %d", r.Format)
	}
	if err := r.Probe.check(); err != nil {
		return err
	}
	if r.Weights != Sharpened && r.Weights != Sent {
		return fmt.Errorf("gate record: weights %q", r.Weights)
	}
	if r.Blank() {
		return nil
	}
	if !finite(r.Loss) {
		return fmt.Errorf("gate record: the loss is %v", r.Loss)
	}
	if len(r.Tensors) == 0 || len(r.Tensors) > maxTensors {
		return fmt.Errorf("gate record: %d tensors", len(r.Tensors))
	}
	for _, t := range r.Tensors {
		if err := t.Check(); err != nil {
			return fmt.Errorf("gate record: %w", err)
		}
	}
	for format, own := range r.Own {
		if err := own.check(format, len(r.Tensors)); err != nil {
			return err
		}
	}
	return r.checkChoices()
}

func (p Probe) check() error {
	if p.Rows < 1 || p.Rows > maxRows || len(p.Tokens) > maxTokens || len(p.Tokens)%p.Rows != 0 || len(p.Tokens)/p.Rows < 2 {
		return fmt.Errorf("gate record: %d tokens in %d rows", len(p.Tokens), p.Rows)
	}
	if i := slices.IndexFunc(p.Tokens, func(t int32) bool { return t < 0 }); i >= 0 {
		return fmt.Errorf("gate record: token %d is %d", i, p.Tokens[i])
	}
	return nil
}

func (o Own) check(format string, tensors int) error {
	if len(o.Gradients) != tensors {
		return fmt.Errorf("gate record: own errors in %q of %d tensors, there are %d", format, len(o.Gradients), tensors)
	}
	for i, e := range append(slices.Clone(o.Gradients), o.Loss) {
		if !finite(e) || e < 0 {
			return fmt.Errorf("gate record: own error %d in %q is %v", i, format, e)
		}
	}
	return nil
}

func (r Record) checkChoices() error {
	all, inputs := 0, r.Probe.Inputs()
	for l, list := range r.Choices {
		if len(list)%inputs != 0 {
			return fmt.Errorf("gate record: %d choices in layer %d for %d inputs", len(list), l, inputs)
		}
		if i := slices.IndexFunc(list, func(c int32) bool { return c < 0 }); i >= 0 {
			return fmt.Errorf("gate record: choice %d in layer %d is %d", i, l, list[i])
		}
		all += len(list)
	}
	if all > maxChoices {
		return fmt.Errorf("gate record: %d choices", all)
	}
	return nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// Together is the answer of an island of several hosts: each has sketched its own pieces
// of the gradient, and the first one speaks for all in everything else.
func Together(parts []*Record) (Record, error) {
	whole := *parts[0]
	if len(parts) == 1 {
		return whole, nil
	}
	whole.Tensors = nil
	for _, t := range parts[0].Tensors {
		whole.Tensors = append(whole.Tensors, Tensor{Name: t.Name})
	}
	for k, p := range parts {
		if err := whole.matches(*p); err != nil {
			return Record{}, fmt.Errorf("host %d: %w", k, err)
		}
		for i, t := range p.Tensors {
			if t.Ranks != nil {
				t.Hosts = &Span{k, k}
			}
			whole.Tensors[i] = whole.Tensors[i].Plus(t)
		}
	}
	return whole, nil
}
