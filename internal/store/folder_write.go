package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mistura-project/mistura/internal/fault"
)

const (
	tempPrefix       = ".tmp-" // CheckName keeps objects away from it
	writeBufferBytes = 256 << 10
	tempFileTries    = 16
	folderMode       = 0o777 // less the user's mask
	objectMode       = 0o666
)

// Create implements [Store].
func (d *Folder) Create(ctx context.Context, name string, data []byte) error {
	write := func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
	_, err := d.write(ctx, "create", name, write, linkNew)
	return err
}

// Put implements [Store].
func (d *Folder) Put(ctx context.Context, name string, write func(io.Writer) error) (Object, error) {
	buffered := func(w io.Writer) error {
		b := bufio.NewWriterSize(w, writeBufferBytes)
		if err := write(b); err != nil {
			return err
		}
		return b.Flush()
	}
	return d.write(ctx, "put", name, buffered, os.Rename)
}

// write makes a whole, durable temporary file and hands it to publish, which gives
// it its name.
func (d *Folder) write(
	ctx context.Context, verb, name string, write func(io.Writer) error, publish func(temp, final string) error,
) (Object, error) {
	if err := enter(ctx, name); err != nil {
		return Object{}, err
	}
	object, err := d.writeFile(ctx, name, write, publish)
	if err != nil {
		return Object{}, fmt.Errorf("%s %s: %w", verb, name, full(err))
	}
	return object, nil
}

func (d *Folder) writeFile(
	ctx context.Context, name string, write func(io.Writer) error, publish func(temp, final string) error,
) (_ Object, err error) {
	final := d.path(name)
	temp, err := d.newTemp(final)
	if err != nil {
		return Object{}, err
	}
	defer func() {
		// The name goes before the lock does, so that nobody sweeps a file that
		// is still to be published. After a rename it is gone already.
		if rmErr := os.Remove(temp.Name()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) && err == nil {
			err = rmErr
		}
		if closeErr := temp.Close(); err == nil {
			err = closeErr
		}
	}()
	object, err := fill(ctx, temp, name, write)
	if err != nil {
		return Object{}, err
	}
	if err := context.Cause(ctx); err != nil {
		return Object{}, err
	}
	published := publish(temp.Name(), final)
	if published != nil && !errors.Is(published, ErrExists) {
		return Object{}, published
	}
	// Also when the name was taken: who hears so may rely on what is there. The
	// folder is gone if somebody has deleted the object since.
	if err := syncDir(filepath.Dir(final)); err != nil && !absent(err) {
		return Object{}, err
	}
	return object, published
}

// fill writes the content and brings it to disk.
func fill(ctx context.Context, f *os.File, name string, write func(io.Writer) error) (Object, error) {
	digest := newDigestWriter(ctx, f)
	if err := write(digest); err != nil {
		return Object{}, err
	}
	if err := f.Sync(); err != nil {
		return Object{}, err
	}
	return digest.object(name), nil
}

// newTemp makes a locked temporary file beside final. A sweep or the clean-up of an
// empty folder may get in between; then it starts again.
func (d *Folder) newTemp(final string) (*os.File, error) {
	dir := filepath.Dir(final)
	var last error
	for range tempFileTries {
		f, err := createTemp(dir, filepath.Base(final))
		if errors.Is(err, fs.ErrNotExist) {
			last = err
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := lockFile(f); err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
		if last = stillThere(f); last == nil {
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("no temporary file after %d tries: %w", tempFileTries, last)
}

// createTemp is os.CreateTemp in a folder that need not exist yet, with the
// permissions that the user's mask gives an ordinary file: others may be meant to
// read a checkpoint.
func createTemp(dir, base string) (*os.File, error) {
	if err := makeDirs(dir); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, tempPrefix+base+"-"+newNonce())
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, objectMode)
}

func stillThere(f *os.File) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(f.Name())
	if err != nil {
		return err
	}
	if !os.SameFile(opened, named) {
		return fs.ErrNotExist
	}
	return nil
}

// makeDirs makes dir and its parents, each of them durable in the one above. It fails
// with fs.ErrNotExist when one of them is removed meanwhile.
func makeDirs(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, folderMode); err != nil {
		info, statErr := os.Stat(dir)
		switch {
		case statErr == nil && info.IsDir():
			return nil // somebody else made it
		case errors.Is(err, fs.ErrExist) && statErr != nil:
			return statErr // and removed it again
		}
		return err
	}
	return syncDir(parent)
}

// linkNew gives a file a second name, if that name is free.
func linkNew(temp, final string) error {
	err := os.Link(temp, final)
	if err == nil {
		return nil
	}
	// On a network file system the reply to a link that was made may be lost,
	// and the request repeated.
	if sameFile(temp, final) {
		return nil
	}
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	if noLinks(err) {
		return &fault.Input{
			Where: filepath.Dir(final), Problem: "this file system has no hard links, so two processes cannot be kept apart",
			Next: "choose a folder on a file system with hard links", Err: err,
		}
	}
	return err
}

func sameFile(a, b string) bool {
	infoA, errA := os.Lstat(a)
	infoB, errB := os.Lstat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// full marks a lack of space with ErrFull.
func full(err error) error {
	if isFull(err) && !errors.Is(err, ErrFull) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
