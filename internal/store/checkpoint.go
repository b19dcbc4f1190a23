package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mistura-project/mistura/internal/fault"
)

// ErrNoCheckpoint: the store holds no whole checkpoint.
var ErrNoCheckpoint = errors.New("no whole checkpoint")

// Checkpoint is one whole checkpoint: its manifest is there, and when it was found
// all parts were there with their sizes. Contents are checked by Verify.
type Checkpoint struct {
	st       Store
	manifest manifest
}

// Incomplete is a checkpoint that cannot be used, and why.
type Incomplete struct {
	Number uint64
	Reason string
}

func (i Incomplete) String() string { return fmt.Sprintf("checkpoint %d: %s", i.Number, i.Reason) }

// Newest finds the whole checkpoint with the highest number, and those with higher
// numbers that are not whole, highest first. If there is none the error is a
// *fault.Input that wraps ErrNoCheckpoint. A checkpoint of a later format is an
// error and not passed over.
func Newest(ctx context.Context, st Store) (Checkpoint, []Incomplete, error) {
	all, err := listCheckpoints(ctx, st)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	var incomplete []Incomplete
	for _, number := range slices.Backward(slices.Sorted(maps.Keys(all))) {
		c, err := load(ctx, st, number, all[number])
		if err == nil {
			return c, incomplete, nil
		}
		var unusable *unusableError
		if !errors.As(err, &unusable) {
			return Checkpoint{}, nil, err
		}
		incomplete = append(incomplete, Incomplete{Number: number, Reason: unusable.reason})
	}
	none := ErrNoCheckpoint
	if len(incomplete) > 0 {
		none = fmt.Errorf("%w; %v", none, incomplete[0])
	}
	return Checkpoint{}, incomplete, &fault.Input{
		Where: st.Location(), Problem: "there is nothing to load", Next: "give the folder of a run that has saved", Err: none,
	}
}

// Load gives the whole checkpoint of a number, or a *fault.Input that says what is
// wrong with it.
func Load(ctx context.Context, st Store, number uint64) (Checkpoint, error) {
	all, err := listCheckpoints(ctx, st)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := load(ctx, st, number, all[number])
	var unusable *unusableError
	if errors.As(err, &unusable) {
		return Checkpoint{}, &fault.Input{
			Where: place(st, PartName(number, "")), Problem: "cannot be loaded", Next: "use another checkpoint",
			Err: fmt.Errorf("%w: %w", ErrNoCheckpoint, unusable),
		}
	}
	return c, err
}

// NextNumber is one more than the highest number that any checkpoint here has, also
// one that is not whole.
func NextNumber(ctx context.Context, st Store) (uint64, error) {
	all, err := listCheckpoints(ctx, st)
	if err != nil {
		return 0, err
	}
	highest := uint64(0)
	for number := range all {
		highest = max(highest, number)
	}
	return highest + 1, nil
}

// listing is what is stored of one checkpoint: size in bytes by part.
type listing map[string]int64

func listCheckpoints(ctx context.Context, st Store) (map[uint64]listing, error) {
	objects, err := st.List(ctx, checkpointsPrefix)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	all := map[uint64]listing{}
	for _, object := range objects {
		number, part, ok := splitPartName(object.Name)
		if !ok {
			continue
		}
		if all[number] == nil {
			all[number] = listing{}
		}
		all[number][part] = object.Size
	}
	return all, nil
}

// unusableError says why a checkpoint is not whole. Other errors are those of the
// store.
type unusableError struct{ reason string }

func (e *unusableError) Error() string { return e.reason }

// load reads the manifest of a listed checkpoint and compares names and sizes.
func load(ctx context.Context, st Store, number uint64, stored listing) (Checkpoint, error) {
	name := PartName(number, manifestName)
	data, err := Get(ctx, st, name, maxManifestBytes)
	if errors.Is(err, ErrNotFound) {
		return Checkpoint{}, &unusableError{reason: "its manifest is missing, so the save did not end"}
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint %d: %w", number, err)
	}
	m, err := decodeManifest(data, number)
	var newer *newerFormatError
	if errors.As(err, &newer) {
		return Checkpoint{}, &fault.Input{Where: place(st, name), Problem: newer.Error(), Next: "use a later version of this program"}
	}
	if err != nil {
		return Checkpoint{}, &unusableError{reason: fmt.Sprintf("its manifest is damaged: %v", err)}
	}
	for _, part := range m.Parts {
		size, ok := stored[part.Name]
		if !ok {
			return Checkpoint{}, &unusableError{reason: fmt.Sprintf("its file %s is missing", part.Name)}
		}
		if size != part.Size {
			return Checkpoint{}, &unusableError{reason: fmt.Sprintf("its file %s has %d bytes, %d are wanted", part.Name, size, part.Size)}
		}
	}
	return Checkpoint{st: st, manifest: m}, nil
}

// Number is the checkpoint's number.
func (c Checkpoint) Number() uint64 { return c.manifest.Number }

// Path names the checkpoint's folder to a user.
func (c Checkpoint) Path() string {
	return strings.TrimSuffix(c.where(""), "/")
}

// Parts lists the parts: names within the checkpoint, sizes, digests.
func (c Checkpoint) Parts() []Object { return slices.Clone(c.manifest.Parts) }

// Has reports whether the checkpoint has a part of that name.
func (c Checkpoint) Has(part string) bool {
	_, ok := c.manifest.part(part)
	return ok
}

// Meta decodes what was given to Commit.
func (c Checkpoint) Meta(into any) error {
	if err := json.Unmarshal(c.manifest.Meta, into); err != nil {
		return c.fault(manifestName, "its meta cannot be used", err)
	}
	return nil
}

// Open gives a part and its size in bytes. A part that the manifest does not name,
// or that is gone or has another size, is a *fault.Input that names the file.
func (c Checkpoint) Open(ctx context.Context, part string) (File, int64, error) {
	want, ok := c.manifest.part(part)
	if !ok {
		return nil, 0, c.fault(part, "this file is not part of the checkpoint", nil)
	}
	f, size, err := c.st.Open(ctx, PartName(c.manifest.Number, part))
	if errors.Is(err, ErrNotFound) {
		return nil, 0, c.fault(part, "this file of the checkpoint is missing", nil)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("checkpoint %d: %w", c.manifest.Number, err)
	}
	if size != want.Size {
		f.Close()
		return nil, 0, c.fault(part, fmt.Sprintf("this file has %d bytes, the manifest says %d", size, want.Size), nil)
	}
	return f, size, nil
}

// TensorFile is an open part in safetensors format.
type TensorFile struct {
	*Reader
	file File
}

// Close closes the part.
func (f *TensorFile) Close() error { return f.file.Close() }

// Tensors opens a part in safetensors format. Its errors name the file, and the
// tensor where there is one.
func (c Checkpoint) Tensors(ctx context.Context, part string) (*TensorFile, error) {
	f, size, err := c.Open(ctx, part)
	if err != nil {
		return nil, err
	}
	r, err := openSafetensors(c.where(part), f, size)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &TensorFile{Reader: r, file: f}, nil
}

// maxJSONPartBytes bounds what JSON reads into memory.
const maxJSONPartBytes = 1 << 30

// JSON decodes a part that was written by Writer.JSON, after checking its digest.
func (c Checkpoint) JSON(ctx context.Context, part string, into any) error {
	f, size, err := c.Open(ctx, part)
	if err != nil {
		return err
	}
	data, err := readWhole(f, c.where(part), size, maxJSONPartBytes)
	if err != nil {
		return err
	}
	if err := c.compareDigest(part, digestBytes(data)); err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return c.fault(part, "this file cannot be used", err)
	}
	return nil
}

// Verify reads every part and compares its digest with the manifest, several at a
// time. The first part in manifest order that is wrong is reported as a
// *fault.Input that names the file.
func (c Checkpoint) Verify(ctx context.Context) error {
	errs := make([]error, len(c.manifest.Parts))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, part := range c.manifest.Parts {
		group.Go(func() error {
			errs[i] = c.verifyPart(ctx, part.Name)
			return nil
		})
	}
	group.Wait() // errs tells, in order
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c Checkpoint) verifyPart(ctx context.Context, part string) error {
	f, size, err := c.Open(ctx, part)
	if err != nil {
		return err
	}
	defer f.Close()
	found, err := Digest(ctx, f, size)
	if err != nil {
		return fmt.Errorf("verify %s: %w", c.where(part), err)
	}
	return c.compareDigest(part, found)
}

func (c Checkpoint) compareDigest(part, found string) error {
	if want, _ := c.manifest.part(part); found != want.SHA256 {
		return c.fault(part, fmt.Sprintf("this file has SHA-256 %.12s…, the manifest says %.12s…", found, want.SHA256), nil)
	}
	return nil
}

func (c Checkpoint) where(part string) string { return place(c.st, PartName(c.manifest.Number, part)) }

func (c Checkpoint) fault(part, problem string, err error) error {
	return &fault.Input{Where: c.where(part), Problem: problem, Next: restoreNext, Err: err}
}
