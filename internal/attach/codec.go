package attach

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
)

// MaxLineBytes bounds a message: the tensors of a hello are the longest there is.
const MaxLineBytes = 64 << 20

// kinds are the messages by the name that stands in their field kind. A loss that is not
// told is unknown, and not 0.
func kinds() map[string]any {
	unknown := Number(math.NaN())
	return map[string]any{
		"hello": &Hello{}, "welcome": &Welcome{}, "refused": &Refused{}, "error": &Failed{}, "mapped": &Mapped{}, "seed": &Seed{}, "seeded": &Seeded{},
		"boundary": &Boundary{Loss: unknown}, "again": &Again{}, "act": &Act{},
		"fetch": &Fetch{}, "value": &Value{}, "gathered": &Gathered{}, "adopted": &Adopted{},
		"describe": &Describe{}, "run": &Run{}, "rows": &Rows{}, "tokens": &Tokens{},
		"gated": &Gated{Loss: unknown}, "sketched": &Sketched{}, "judge": &Judge{Loss: unknown}, "verdict": &Verdict{}, "validation": &Validation{Loss: unknown}, "bye": &Bye{},
		"slot": &Slot{}, "taken": &Taken{}, "load": &Load{}, "loaded": &Loaded{}, "kept": &Kept{},
	}
}

// kindOf names a message.
func kindOf(m any) string {
	for name, k := range kinds() {
		if reflect.TypeOf(k) == reflect.TypeOf(m) {
			return name
		}
	}
	panic(fmt.Sprintf("attach: %T is no message", m))
}

// Encode gives a message as one line. It is a pointer to one of the types of message.go.
func Encode(m any) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("attach: %s: %w", kindOf(m), err)
	}
	line := fmt.Appendf(nil, `{"kind":%q`, kindOf(m))
	if body = bytes.TrimPrefix(body, []byte("{")); len(body) > 1 {
		line = append(line, ',')
	}
	line = append(append(line, body...), '\n')
	if len(line) > MaxLineBytes {
		return nil, fmt.Errorf("attach: %s of %d bytes, at most %d go on a line", kindOf(m), len(line), MaxLineBytes)
	}
	return line, nil
}

// Decode reads one line. Fields that are not known are left alone; what contradicts
// itself is refused.
func Decode(line []byte) (any, error) {
	if len(line) > MaxLineBytes {
		return nil, fmt.Errorf("attach: a line of %d bytes, at most %d are read", len(line), MaxLineBytes)
	}
	var head struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	m, known := kinds()[head.Kind]
	if !known {
		return nil, fmt.Errorf("attach: kind %.40q is none of %s", head.Kind, strings.Join(slices.Sorted(maps.Keys(kinds())), ", "))
	}
	if err := json.Unmarshal(line, m); err != nil {
		return nil, fmt.Errorf("attach: %s: %w", head.Kind, err)
	}
	if c, ok := m.(interface{ problem() string }); ok {
		if problem := c.problem(); problem != "" {
			return nil, fmt.Errorf("attach: %s: %s", head.Kind, problem)
		}
	}
	return m, nil
}

// Limits of what a rank may say of itself.
const (
	maxWorld   = 1 << 20
	maxNames   = 256
	maxTensors = 1 << 20
	maxDims    = 64      // PyTorch's own limit
	maxModel   = 1 << 48 // elements of all tensors: a thousand times the largest model's
	maxStep    = 1 << 40 // tokens of one step
)

func (h *Hello) problem() string {
	switch {
	case h.Protocol != Protocol:
		return "" // it is refused by both numbers, whatever else it says
	case h.World < 1 || h.World > maxWorld || h.Rank < 0 || h.Rank >= h.World:
		return fmt.Sprintf("rank %d of world %d", h.Rank, h.World)
	case h.HostWorld < 1 || h.HostWorld > h.World || h.HostRank < 0 || h.HostRank >= h.HostWorld:
		return fmt.Sprintf("host_rank %d of host_world %d in a world of %d", h.HostRank, h.HostWorld, h.World)
	case h.Parts < 1 || h.Parts > h.World || h.Part < 0 || h.Part >= h.Parts:
		return fmt.Sprintf("part %d of parts %d in a world of %d", h.Part, h.Parts, h.World)
	case h.Control() != (h.Part == 0 && h.HostRank == 0):
		return fmt.Sprintf("rank %d is host_rank %d of part %d; rank 0, and it alone, is the first of part 0", h.Rank, h.HostRank, h.Part)
	case (h.Incarnation == 0) != (h.Part == 0):
		return fmt.Sprintf("incarnation %d on part %d", h.Incarnation, h.Part)
	case h.Engine != "torch" && h.Engine != "external":
		return fmt.Sprintf("engine %.40q is neither torch nor external", h.Engine)
	case len(h.Tensors) > maxTensors || len(h.Pieces) > maxTensors || len(h.Slots) > maxNames:
		return fmt.Sprintf("%d tensors, %d pieces and %d slots", len(h.Tensors), len(h.Pieces), len(h.Slots))
	}
	return shapesProblem(h.Tensors)
}

// shapesProblem names a tensor whose shape cannot be. Sums and products of what is left
// do not overflow.
func shapesProblem(tensors []Tensor) string {
	all := 0
	for _, t := range tensors {
		if len(t.Shape) > maxDims {
			return fmt.Sprintf("tensor %.100q has %d dimensions", t.Name, len(t.Shape))
		}
		n := 1
		for _, extent := range t.Shape {
			if extent < 0 || extent > 0 && n > maxModel/extent {
				return fmt.Sprintf("tensor %.100q has shape %v", t.Name, t.Shape)
			}
			n *= extent
		}
		if all += n; all > maxModel {
			return fmt.Sprintf("the tensors up to %.100q have more than 2^48 elements", t.Name)
		}
	}
	return ""
}

func (b *Boundary) problem() string {
	if b.Tokens < 0 || b.Tokens > maxStep {
		return fmt.Sprintf("tokens is %d", b.Tokens)
	}
	for i, n := range b.ExpertTokens {
		if n < 0 {
			return fmt.Sprintf("expert_tokens %d is %d", i, n)
		}
	}
	return ""
}

func (f *Fetch) problem() string {
	if f.Op != Adopt && f.Op != Install {
		return fmt.Sprintf("op %.40q is neither adopt nor install", f.Op)
	}
	return fragmentProblem(f.Fragment)
}

func (g *Gathered) problem() string { return fragmentProblem(g.Fragment) }
func (a *Adopted) problem() string  { return fragmentProblem(a.Fragment) }

func fragmentProblem(p int) string {
	if p < 0 {
		return fmt.Sprintf("fragment is %d", p)
	}
	return ""
}
