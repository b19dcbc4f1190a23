package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

var _ Store = (*Folder)(nil)

// Folder keeps objects as files of a folder on a file system that has hard links.
//
// A new object is written to a temporary file beside its place, brought to disk
// (fsync), then linked (Create) or renamed (Put) to its name, and the folder is
// brought to disk too. So whatever has a name is whole, after a kill and after a
// loss of power, and of two processes that create one name the second is refused.
// The temporary file is locked while it is written; [Folder.Sweep] removes those
// whose writers are gone.
type Folder struct {
	root string // absolute
}

const (
	tempPrefix      = ".tmp-" // CheckName keeps objects away from it
	writeBuffer     = 256 << 10
	tempFileTries   = 16
	folderMode      = 0o777
	objectMode      = 0o666
	noLinksNextStep = "choose a folder on a file system with hard links"
)

// OpenFolder gives the store in a folder. The folder need not exist: reading finds
// it empty, and the first write makes it.
func OpenFolder(dir string) (*Folder, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store folder %q: %w", dir, err)
	}
	switch info, err := os.Stat(root); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, &fault.Input{Where: "folder", Value: dir, Problem: "cannot be read", Next: "choose another folder", Err: err}
	case !info.IsDir():
		return nil, &fault.Input{Where: "folder", Value: dir, Problem: "is not a folder", Next: "choose another name"}
	}
	return &Folder{root: root}, nil
}

// Location is the absolute path of the folder.
func (d *Folder) Location() string { return d.root }

func (d *Folder) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

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
	return d.write(ctx, "put", name, write, os.Rename)
}

// write makes a whole, durable temporary file and hands it to publish, which gives
// it its name.
func (d *Folder) write(
	ctx context.Context, verb, name string, write func(io.Writer) error, publish func(temp, final string) error,
) (Object, error) {
	if err := CheckName(name); err != nil {
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
	if err := context.Cause(ctx); err != nil {
		return Object{}, err
	}
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
	// Also when the name was taken: who hears so may rely on what is there.
	if err := syncDir(filepath.Dir(final)); err != nil {
		return Object{}, err
	}
	return object, published
}

// fill writes the content and brings it to disk.
func fill(ctx context.Context, f *os.File, name string, write func(io.Writer) error) (Object, error) {
	digest := newDigestWriter(ctx, f)
	w := bufio.NewWriterSize(digest, writeBuffer)
	if err := write(w); err != nil {
		return Object{}, err
	}
	if err := w.Flush(); err != nil {
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
		if err := makeDirs(dir); err != nil {
			return nil, err
		}
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

// createTemp is os.CreateTemp with the permissions that the user's mask gives an
// ordinary file: others may be meant to read a checkpoint.
func createTemp(dir, base string) (*os.File, error) {
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

// makeDirs makes dir and its parents, each of them durable in the one above.
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
		if info, statErr := os.Stat(dir); statErr == nil && info.IsDir() {
			return nil // somebody else made it
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
		return &fault.Input{Where: filepath.Dir(final), Problem: "this file system has no hard links, so no file can be created by one process only", Next: noLinksNextStep, Err: err}
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

// Open implements [Store].
func (d *Folder) Open(ctx context.Context, name string) (File, int64, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, 0, err
	}
	if err := CheckName(name); err != nil {
		return nil, 0, err
	}
	f, err := os.Open(d.path(name))
	if absent(err) {
		return nil, 0, fmt.Errorf("open %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", name, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", name, errors.Join(err, f.Close()))
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.Join(fmt.Errorf("open %s: %w", name, ErrNotFound), f.Close())
	}
	return f, info.Size(), nil
}

// absent reports that a path leads nowhere: it, or a folder on the way, is not
// there or is a file.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || notFolder(err) }

// List implements [Store].
func (d *Folder) List(ctx context.Context, prefix string) ([]Object, error) {
	dir, _ := path.Split(prefix)
	dir = strings.TrimSuffix(dir, "/")
	if dir != "" && CheckName(dir) != nil {
		return nil, nil // no object can have such a name
	}
	var objects []Object
	err := d.walk(ctx, dir, func(name string, info fs.FileInfo) error {
		if strings.HasPrefix(name, prefix) && CheckName(name) == nil {
			objects = append(objects, Object{Name: name, Size: info.Size()})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", prefix, err)
	}
	slices.SortFunc(objects, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return objects, nil
}

// walk visits the regular files below dir, links to folders included (people put
// checkpoints on another disk). What vanishes meanwhile is passed over.
func (d *Folder) walk(ctx context.Context, dir string, visit func(name string, info fs.FileInfo) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	entries, err := os.ReadDir(d.path(dir))
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		if len(name) > maxNameBytes { // also the end of a circle of links
			continue
		}
		info, err := os.Stat(d.path(name))
		switch {
		case absent(err):
		case err != nil:
			return err
		case info.IsDir():
			err = d.walk(ctx, name, visit)
		case info.Mode().IsRegular():
			err = visit(name, info)
		}
		if err != nil && !absent(err) {
			return err
		}
	}
	return nil
}

// Delete implements [Store]. Folders that it leaves empty go too.
func (d *Folder) Delete(ctx context.Context, name string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := CheckName(name); err != nil {
		return err
	}
	if err := os.Remove(d.path(name)); absent(err) {
		return fmt.Errorf("delete %s: %w", name, ErrNotFound)
	} else if err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	if err := d.tidy(path.Dir(name)); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// tidy removes dir and its parents below the root as far as they are empty, and
// brings the folder where it stops to disk.
func (d *Folder) tidy(dir string) error {
	for dir != "." && os.Remove(d.path(dir)) == nil {
		dir = path.Dir(dir)
	}
	if err := syncDir(d.path(dir)); err != nil && !absent(err) {
		return err
	}
	return nil
}

// FreeBytes implements [Store].
func (d *Folder) FreeBytes(ctx context.Context) (int64, bool, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, false, err
	}
	dir := d.root
	for {
		n, known, err := freeBytes(dir)
		parent := filepath.Dir(dir)
		if err == nil || !absent(err) || parent == dir {
			return n, known, wrapFree(dir, err)
		}
		dir = parent // not made yet: what holds for the folder above holds for it
	}
}

func wrapFree(dir string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("free space of %s: %w", dir, err)
}
