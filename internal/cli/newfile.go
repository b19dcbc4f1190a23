package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mistura-project/mistura/internal/chip"
)

// newFile is a file that a flag has written: whole, or not at all.
type newFile struct {
	flag, path string // an empty path is none
	kind       string // in words
	is         func(path string, data []byte) error
}

func isTable(path string, data []byte) error {
	_, err := chip.ParseTable(path, data)
	return err
}

func isCatalogue(path string, data []byte) error {
	_, err := chip.Parse(path, data)
	return err
}

// check refuses, before there is anything to write, what cannot be written, and what
// somebody needs: a file that is there is replaced only by its own kind.
func (n newFile) check() error {
	if n.path == "" || n.special() {
		return nil
	}
	data, err := os.ReadFile(n.path)
	switch {
	case err == nil && len(data) > 0 && n.is(n.path, data) != nil:
		return usage(n.flag, n.path, "is there, and is no "+n.kind, "give another name")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return usage(n.flag, n.path, "cannot be replaced: "+reason(err), "give another name")
	}
	f, err := n.part()
	if err != nil {
		return usage(n.flag, n.path, "cannot be written: "+reason(err), "give a file in a folder that can be written to")
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// special says that the path is a pipe, a terminal or the like, which cannot be replaced.
func (n newFile) special() bool {
	info, err := os.Stat(n.path)
	return err == nil && !info.Mode().IsRegular() && !info.IsDir()
}

// target is where a chain of links leads.
func (n newFile) target() string {
	if path, err := filepath.EvalSymlinks(n.path); err == nil {
		return path
	}
	return n.path
}

// part begins the file under another name beside it.
func (n newFile) part() (*os.File, error) {
	dir, name := filepath.Split(n.target())
	return os.OpenFile(filepath.Join(dir, fmt.Sprintf(".%s.part-%d", name, os.Getpid())), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
}

// write makes the file.
func (n newFile) write(data []byte) error {
	switch {
	case n.path == "":
		return nil
	case n.special():
		return n.failed(os.WriteFile(n.path, data, 0))
	}
	f, err := n.part()
	if err != nil {
		return n.failed(err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), n.target())
	}
	if err != nil {
		os.Remove(f.Name()) //nolint:errcheck // what is left of it harms nobody
	}
	return n.failed(err)
}

// writeNew makes the file where there is none: of two at once one does.
func (n newFile) writeNew(data []byte) error {
	taken := usage(n.flag, n.path, "is there already", "give a name that is free")
	if _, err := os.Lstat(n.path); err == nil {
		return taken
	}
	f, err := n.part()
	if err != nil {
		return usage(n.flag, n.path, "cannot be written: "+reason(err), "give a path that can")
	}
	defer os.Remove(f.Name()) //nolint:errcheck // what is left of it harms nobody
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return n.failed(err)
	}
	if err = os.Link(f.Name(), n.path); errors.Is(err, fs.ErrExist) {
		return taken
	} else if err != nil { // a file system without links
		err = os.Rename(f.Name(), n.path)
	}
	return n.failed(err)
}

func (n newFile) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s could not be written: %w", n.flag, n.path, err)
}
