package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Writer makes one checkpoint: parts first, manifest last. Until Commit returns nil
// nothing of it can be taken for a checkpoint. It is for one goroutine.
//
// Each method writes what it is given before it returns, so the caller may go on
// and alter tensors and values afterwards. After an error the Writer is of no use
// except for Abandon.
type Writer struct {
	st     Store
	number uint64
	parts  []Object // names within the checkpoint
	own    []string // names in the store of what this Writer wrote
	failed error
}

// Begin starts checkpoint number. A number whose manifest exists fails with
// ErrExists; take [NextNumber].
func Begin(ctx context.Context, st Store, number uint64) (*Writer, error) {
	f, _, err := st.Open(ctx, PartName(number, manifestName))
	if err == nil {
		err = errors.Join(ErrExists, f.Close())
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("begin checkpoint %d: %w", number, err)
	}
	return &Writer{st: st, number: number}, nil
}

// Number is the number of the checkpoint, fixed at Begin.
func (w *Writer) Number() uint64 { return w.number }

// Tensors writes a part in safetensors format. A NaN or an infinity is refused with
// ErrNonFinite, which names the tensor.
func (w *Writer) Tensors(ctx context.Context, part string, tensors []Tensor, meta map[string]string) error {
	return w.write(part, func(name string) (Object, error) { return PutTensors(ctx, w.st, name, tensors, meta) })
}

// JSON writes a part with the JSON of v.
func (w *Writer) JSON(ctx context.Context, part string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return w.fail(part, err)
	}
	return w.write(part, func(name string) (Object, error) {
		return w.st.Put(ctx, name, func(out io.Writer) error {
			_, err := out.Write(append(data, '\n'))
			return err
		})
	})
}

func (w *Writer) write(part string, put func(name string) (Object, error)) error {
	if err := w.ready(part); err != nil {
		return w.fail(part, err)
	}
	name := PartName(w.number, part)
	w.own = append(w.own, name)
	object, err := put(name)
	if err != nil {
		return w.fail(part, err)
	}
	w.parts = append(w.parts, Object{Name: part, Size: object.Size, SHA256: object.SHA256})
	return nil
}

// Existing takes in a part that somebody else has written to PartName(number, part),
// with the size in bytes and the digest that they report. It looks whether the part
// is there with that size; the digest is taken on trust until [Checkpoint.Verify].
func (w *Writer) Existing(ctx context.Context, part string, size int64, sha256hex string) error {
	object := Object{Name: part, Size: size, SHA256: sha256hex}
	if err := w.ready(part); err != nil {
		return w.fail(part, err)
	}
	if err := checkPart(object); err != nil {
		return w.fail(part, err)
	}
	f, found, err := w.st.Open(ctx, PartName(w.number, part))
	if err != nil {
		return w.fail(part, err)
	}
	if found != size {
		err = fmt.Errorf("%d bytes are there, %d were reported", found, size)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return w.fail(part, err)
	}
	w.parts = append(w.parts, object)
	return nil
}

func (w *Writer) ready(part string) error {
	switch {
	case w.failed != nil:
		return w.failed
	case part == manifestName:
		return errors.New("the manifest is no part")
	case slices.ContainsFunc(w.parts, func(p Object) bool { return p.Name == part }):
		return errors.New("written already")
	}
	return CheckName(PartName(w.number, part))
}

func (w *Writer) fail(part string, err error) error {
	if w.failed == nil {
		w.failed = fmt.Errorf("checkpoint %d, part %s: %w", w.number, part, err)
	}
	return w.failed
}

// Commit writes the manifest with all parts so far and the caller's meta, any JSON
// value. When it returns nil the checkpoint is whole and durable. It may be called
// again after a failure of the store.
func (w *Writer) Commit(ctx context.Context, meta any) (Checkpoint, error) {
	if w.failed != nil {
		return Checkpoint{}, w.failed
	}
	c, err := w.commit(ctx, meta)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("commit checkpoint %d: %w", w.number, err)
	}
	return c, nil
}

func (w *Writer) commit(ctx context.Context, meta any) (Checkpoint, error) {
	metaJSON, err := json.Marshal(meta)
	if err != nil {
		return Checkpoint{}, err
	}
	m := manifest{Number: w.number, Parts: slices.Clone(w.parts), Meta: metaJSON}
	data, err := encodeManifest(m)
	if err != nil {
		return Checkpoint{}, err
	}
	name := PartName(w.number, manifestName)
	if err := w.st.Create(ctx, name, data); errors.Is(err, ErrExists) {
		// Perhaps from an earlier try whose reply was lost.
		if found, getErr := Get(ctx, w.st, name, maxManifestBytes); getErr != nil || string(found) != string(data) {
			return Checkpoint{}, errors.Join(err, getErr)
		}
	} else if err != nil {
		return Checkpoint{}, err
	}
	return Checkpoint{st: w.st, manifest: m}, nil
}

// Abandon deletes what this Writer wrote, as far as the store lets it: of a save
// that failed or is not wanted. It does nothing once a manifest is there.
func (w *Writer) Abandon(ctx context.Context) error {
	if _, err := Begin(ctx, w.st, w.number); err != nil {
		return fmt.Errorf("abandon: %w", err)
	}
	w.failed = fmt.Errorf("checkpoint %d was abandoned", w.number)
	var errs []error
	for _, name := range w.own {
		if err := w.st.Delete(ctx, name); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// PutTensors writes tensors as an object of their own, in safetensors format, and
// refuses non-finite values with ErrNonFinite.
func PutTensors(ctx context.Context, st Store, name string, tensors []Tensor, meta map[string]string) (Object, error) {
	if err := checkFinite(tensors); err != nil {
		return Object{}, fmt.Errorf("put %s: %w", name, err)
	}
	return st.Put(ctx, name, func(out io.Writer) error { return WriteSafetensors(out, tensors, meta) })
}
