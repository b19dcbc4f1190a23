package gate

import (
	"bytes"
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
		if t.Name == "" || len(t.Name) > maxName {
			return fmt.Errorf("gate record: a tensor's name has %d bytes", len(t.Name))
		}
		if !t.Sketch().Finite() || t.Squares < 0 {
			return fmt.Errorf("gate record: the gradient of tensor %q is not finite", t.Name)
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
	whole.Tensors = slices.Clone(whole.Tensors)
	for k, p := range parts[1:] {
		if err := whole.matches(*p); err != nil {
			return Record{}, fmt.Errorf("host %d: %w", k+1, err)
		}
		for i, t := range p.Tensors {
			whole.Tensors[i] = NewTensor(t.Name, whole.Tensors[i].Sketch().Plus(t.Sketch()))
		}
	}
	return whole, nil
}
