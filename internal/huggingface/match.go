package huggingface

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// Mismatch names every tensor for which there is no counterpart.
type Mismatch struct {
	Missing []string // of the model, with the names that they should have in the files
	Unused  []string // of the files
}

// namesShown is how many names of each kind an error shows.
const namesShown = 64

// Error lists the names, all of them unless there are very many.
func (m *Mismatch) Error() string {
	var parts []string
	if len(m.Missing) > 0 {
		parts = append(parts, "without data: "+list(m.Missing))
	}
	if len(m.Unused) > 0 {
		parts = append(parts, "unused: "+list(m.Unused))
	}
	return strings.Join(parts, "; ")
}

// Long reports whether the error leaves names out.
func (m *Mismatch) Long() bool { return max(len(m.Missing), len(m.Unused)) > namesShown }

func list(names []string) string {
	if len(names) <= namesShown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:namesShown], ", "), len(names)-namesShown)
}

// match finds the place of each tensor of the model.
func (d *Folder) match(ctx context.Context, fam family) error {
	grouped := false
	for name := range d.held {
		grouped = grouped || isGroup(name)
	}
	if err := d.plausible(grouped); err != nil {
		return err
	}
	mismatch, used := &Mismatch{}, map[string]bool{}
	for _, t := range fam.fileTensors(d.Config, grouped) {
		h, ok := d.held[t.name]
		if !ok {
			for _, part := range t.parts {
				mismatch.Missing = append(mismatch.Missing, part.Name+" ("+t.name+")")
			}
			continue
		}
		used[t.name] = true
		if err := d.take(ctx, t, h); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(d.held) {
		if used[name] {
			continue
		}
		spare, err := d.spare(ctx, fam, name)
		if err != nil {
			return err
		}
		if !spare {
			mismatch.Unused = append(mismatch.Unused, name)
		}
	}
	if len(mismatch.Missing)+len(mismatch.Unused) == 0 {
		return nil
	}
	return &fault.Input{
		Where:   d.dir,
		Problem: fmt.Sprintf("%d tensors of the model have no data and %d tensors of the files are not of the model", len(mismatch.Missing), len(mismatch.Unused)),
		Next:    "give weights and config.json that belong together", Err: mismatch,
	}
}

// plausible refuses a configuration of very many more tensors than the files hold
// before they are listed.
func (d *Folder) plausible(grouped bool) error {
	perLayer := 8 // without experts, at least
	if !grouped {
		perLayer += 3 * d.Config.Experts
	}
	want := d.Config.Layers * perLayer
	const slack = 10_000
	if want <= 4*len(d.held)+slack {
		return nil
	}
	return &fault.Input{Where: d.dir, Problem: fmt.Sprintf("config.json makes some %d tensors, the files hold %d", want, len(d.held)),
		Next: "give weights and config.json that belong together"}
}

// take notes where the parts of one tensor of the files lie.
func (d *Folder) take(ctx context.Context, t fileTensor, h held) error {
	if store.WideBytes(h.info.Dtype) == 0 {
		return d.bad(h, "has type "+h.info.Dtype+"; F32, BF16 and F16 can be read", "save the model in one of these")
	}
	if !slices.Equal(h.info.Shape, t.shape) {
		if !t.perVocab() || !padded(h, t.shape) {
			return d.bad(h, fmt.Sprintf("has shape %v, config.json makes it %v", h.info.Shape, t.shape), "give weights and config.json that belong together")
		}
		d.Notes = append(d.Notes, fmt.Sprintf("%s: %d rows behind the %d of vocab_size are padding and left out", t.name, h.info.Shape[0]-t.shape[0], t.shape[0]))
	}
	if len(t.parts) == 0 {
		return d.demandZero(ctx, h)
	}
	first := 0
	for _, part := range t.parts {
		d.lies[part.Name] = source{tensor: t.name, first: first}
		first += part.Size()
	}
	return nil
}

func (d *Folder) bad(h held, problem, next string) error {
	return &fault.Input{Where: filepath.Join(d.dir, h.name), Value: h.info.Name, Problem: problem, Next: next}
}

// padded reports whether a tensor has the rows of a vocabulary that was padded for
// training: to a multiple of 128 times the tensor-parallel size, a power of two
// (Megatron-LM).
func padded(h held, want []int) bool {
	const widest = 64
	if len(h.info.Shape) != len(want) || !slices.Equal(h.info.Shape[1:], want[1:]) {
		return false
	}
	for size := 1; size <= widest; size *= 2 {
		unit := 128 * size
		if h.info.Shape[0] == (want[0]+unit-1)/unit*unit {
			return true
		}
	}
	return false
}

// spare reports whether a tensor that the model has no place for is of no account:
// a head that is the embedding once more, or a tensor without elements (the code of
// Ling makes them of no shared experts).
func (d *Folder) spare(ctx context.Context, fam family, name string) (bool, error) {
	h := d.held[name]
	if slices.Contains(h.info.Shape, 0) {
		return true, nil
	}
	embedding, ok := d.held[fam.names.embedding]
	if !d.Config.TiedEmbeddings || name != fam.names.head || !ok {
		return false, nil
	}
	same, err := d.equal(ctx, h, embedding)
	if err != nil {
		return false, err
	}
	if !same {
		return false, d.bad(h, "is not "+fam.names.embedding+", but config.json says tie_word_embeddings", "correct the one that is wrong")
	}
	d.Notes = append(d.Notes, name+" is "+fam.names.embedding+" once more")
	return true, nil
}

// demandZero refuses a bias of the router that config.json says is off but is not
// zero: the family's code adds it all the same.
func (d *Folder) demandZero(ctx context.Context, h held) error {
	zero := true
	err := d.each(ctx, h, func(piece []byte) {
		zero = zero && len(bytes.Trim(piece, "\x00")) == 0
	})
	if err != nil || zero {
		return err
	}
	return d.bad(h, "is not zero, but config.json says that the router has no bias (moe_router_enable_expert_bias)", "correct the one that is wrong")
}

// equal compares two tensors bit by bit.
func (d *Folder) equal(ctx context.Context, a, b held) (bool, error) {
	if a.info.Dtype != b.info.Dtype || !slices.Equal(a.info.Shape, b.info.Shape) {
		return false, nil
	}
	other, _, err := b.file.Section(b.info.Name)
	if err != nil {
		return false, err
	}
	same, buf := true, make([]byte, pieceBytes)
	var readErr error
	err = d.each(ctx, a, func(piece []byte) {
		if readErr != nil || !same {
			return
		}
		if _, readErr = io.ReadFull(other, buf[:len(piece)]); readErr == nil {
			same = bytes.Equal(piece, buf[:len(piece)])
		}
	})
	if readErr != nil {
		err = errors.Join(err, d.unreadable(b, readErr))
	}
	return same, err
}

const pieceBytes = 256 << 10

// each hands out the bytes of a tensor piece by piece.
func (d *Folder) each(ctx context.Context, h held, use func(piece []byte)) error {
	section, _, err := h.file.Section(h.info.Name)
	if err != nil {
		return err
	}
	buf := make([]byte, pieceBytes)
	for left := section.Size(); left > 0; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		piece := buf[:min(left, pieceBytes)]
		if _, err := io.ReadFull(section, piece); err != nil {
			return d.unreadable(h, err)
		}
		use(piece)
		left -= int64(len(piece))
	}
	return nil
}

func (d *Folder) unreadable(h held, err error) error {
	return &fault.Input{Where: filepath.Join(d.dir, h.name), Value: h.info.Name, Problem: "this tensor cannot be read", Next: "fetch the file again", Err: err}
}

// reader writes one tensor of the model, as float32, from its place.
func (d *Folder) reader(t model.Tensor) func(io.Writer) error {
	return func(w io.Writer) error {
		s := d.lies[t.Name]
		h := d.held[s.tensor]
		section, info, err := h.file.Section(s.tensor)
		if err != nil {
			return err
		}
		size := int64(store.WideBytes(info.Dtype))
		from := io.NewSectionReader(section, int64(s.first)*size, int64(t.Size())*size)
		out := &sink{w: w}
		if err := widen(out, from, info.Dtype, t.Size()); err != nil {
			if out.err != nil {
				return out.err // of the place it is written to
			}
			return d.unreadable(h, err)
		}
		return nil
	}
}

// sink remembers that writing failed, not reading.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.err = err
	return n, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
