package store

import (
	"context"
	"errors"
	"fmt"
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

// Open implements [Store].
func (d *Folder) Open(ctx context.Context, name string) (File, int64, error) {
	if err := enter(ctx, name); err != nil {
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
	var objects []Object
	err := d.walkPrefix(ctx, prefix, func(name string, info fs.FileInfo) error {
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

// walkPrefix visits the regular files in the last folder that a prefix of names
// spells out, and below it.
func (d *Folder) walkPrefix(ctx context.Context, prefix string, visit func(name string, info fs.FileInfo) error) error {
	dir, _ := path.Split(prefix)
	dir = strings.TrimSuffix(dir, "/")
	if dir != "" && CheckName(dir) != nil {
		return context.Cause(ctx) // no object can have such a name
	}
	return d.walk(ctx, dir, visit)
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
	if err := enter(ctx, name); err != nil {
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
