package gathered

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// Key is the entry of a file's metadata that says which box of which tensor each of its
// tensors is. The hosts of an island that spans several write what their ranks hold, each a file of
// its own; whoever loads such a state reads all files and puts the tensors together.
const Key = "boxes"

// Mark says of which tensor a box is.
type Mark struct {
	Name   string `json:"name"` // in the file
	Tensor string `json:"tensor"`
	Offset []int  `json:"offset"`
	Extent []int  `json:"extent"`
}

// Boxes are those of all files of a state, by tensor.
type Boxes map[string][]stored

// stored is a box that is in a file.
type stored struct {
	reader *store.Reader
	name   string
	box    layout.Box
}

// Add lists the boxes of a file; of one that holds whole tensors there are none.
func (b Boxes) Add(r *store.Reader, object string) error {
	text, there := r.Meta()[Key]
	if !there {
		return nil
	}
	var marks []Mark
	if err := json.Unmarshal([]byte(text), &marks); err != nil {
		return fmt.Errorf("reading the boxes of %s: %w", object, err)
	}
	for _, m := range marks {
		b[m.Tensor] = append(b[m.Tensor], stored{r, m.Name, layout.Box{Offset: m.Offset, Extent: m.Extent}})
	}
	return nil
}

// Read puts a tensor together, of boxes that must hold each of its elements once.
func (b Boxes) Read(name string, shape []int, dst []float32) error {
	whole := model.Tensor{Name: name, Shape: shape}
	var boxes []layout.Box
	for _, s := range b[name] {
		if err := layout.Check(whole, s.box); err != nil {
			return err
		}
		boxes = append(boxes, s.box)
	}
	if held := layout.Size(boxes...); held != len(dst) {
		return fmt.Errorf("tensor %s: the hosts' files hold %d of its %d elements", name, held, len(dst))
	}
	if err := layout.Cover([]model.Tensor{whole}, boxes); err != nil {
		return fmt.Errorf("the hosts' files: %w", err)
	}
	for _, s := range b[name] {
		values := make([]float32, s.box.Size())
		if err := s.reader.ReadF32(s.name, values); err != nil {
			return err
		}
		for first, n := range s.box.Runs(shape) {
			values = values[copy(dst[first:first+n], values[:n]):]
		}
	}
	return nil
}

// Digest is that of a slot, of which one tensor at a time is in memory.
func (b Boxes) Digest(slot string, table []model.Tensor) (string, error) {
	h := sha256.New()
	var values []float32
	for _, t := range table {
		if cap(values) < t.Size() {
			values = make([]float32, t.Size())
		}
		values = values[:t.Size()]
		name := slot + "." + t.Name
		if err := b.Read(name, t.Shape, values); err != nil {
			return "", err
		}
		add(h, name, tensorSum(values))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
