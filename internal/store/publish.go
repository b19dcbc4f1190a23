package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

// NewFolder is a folder that is written under another name beside its place, so that
// it appears whole or not at all. Close ends it, published or not.
type NewFolder struct {
	final string
	temp  string
	lock  *os.File // of temp; the kernel frees it when we die
}

// MakeFolder begins a folder whose parent is there. What processes that were killed
// have left of folders of that name is removed first.
func MakeFolder(final string) (*NewFolder, error) {
	if real, err := filepath.EvalSymlinks(final); err == nil {
		final = real // a link to an empty folder
	}
	final = filepath.Clean(final)
	if err := replaceable(final); err != nil {
		return nil, err
	}
	prefix := filepath.Join(filepath.Dir(final), tempPrefix+filepath.Base(final)+"-")
	if err := sweepFolders(prefix); err != nil {
		return nil, fmt.Errorf("make %s: %w", final, err)
	}
	var last error
	for range tempFileTries {
		temp := prefix + newNonce()
		if err := os.Mkdir(temp, folderMode); err != nil {
			return nil, fmt.Errorf("make %s: %w", final, full(err))
		}
		lock, err := lockFolder(temp)
		if err == nil {
			return &NewFolder{final: final, temp: temp, lock: lock}, nil
		}
		last = err
		if !errors.Is(err, fs.ErrNotExist) { // else somebody swept it before it was locked
			return nil, errors.Join(fmt.Errorf("make %s: %w", final, err), os.RemoveAll(temp))
		}
	}
	return nil, fmt.Errorf("make %s: no temporary folder after %d tries: %w", final, tempFileTries, last)
}

// replaceable refuses, before anything is written, an empty folder that the new one
// could not take the place of: where a disk is mounted, or where somebody stands.
func replaceable(final string) error {
	info, err := os.Lstat(final)
	if err != nil || !info.IsDir() {
		return nil // Publish will see
	}
	refuse := func(problem string, err error) error {
		return &fault.Input{Where: "folder", Value: final, Problem: problem, Next: "give a new folder in it", Err: err}
	}
	if here, err := os.Stat("."); err == nil && os.SameFile(here, info) {
		return refuse("is the one that you are in, which cannot be replaced", nil)
	}
	if err := os.Remove(final); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return refuse("cannot be replaced", cause(err))
	}
	if err := os.Mkdir(final, info.Mode().Perm()); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make %s: %w", final, err)
	}
	return nil
}

// Dir is where to write.
func (n *NewFolder) Dir() string { return n.temp }

// Publish gives the folder its name, durably. An empty folder of that name is
// replaced; anything else in its place is a *fault.Input, and stays as it is.
func (n *NewFolder) Publish() error {
	if info, err := os.Lstat(n.final); err == nil && info.IsDir() {
		if err := os.Remove(n.final); err != nil && !errors.Is(err, fs.ErrNotExist) { // not on every system does a rename replace it
			return n.taken(err)
		}
	}
	if err := os.Rename(n.temp, n.final); err != nil {
		return n.taken(err)
	}
	return syncDir(filepath.Dir(n.final))
}

func (n *NewFolder) taken(err error) error {
	return &fault.Input{Where: "folder", Value: n.final, Problem: "cannot be replaced by the new one, which is dropped", Next: "give a new folder", Err: cause(err)}
}

// cause is what the system said, without the path that the message names already.
func cause(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	if le := (*os.LinkError)(nil); errors.As(err, &le) {
		return le.Err
	}
	return err
}

// Close removes what was written, unless it has been published.
func (n *NewFolder) Close() error { return errors.Join(os.RemoveAll(n.temp), n.lock.Close()) }

// lockFolder locks a folder that was just made. fs.ErrNotExist says that somebody
// has swept it in between.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := stillThere(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweepFolders removes the temporary folders of a prefix whose makers are gone.
func sweepFolders(prefix string) error {
	entries, err := os.ReadDir(filepath.Dir(prefix))
	if err != nil {
		return err
	}
	for _, e := range entries {
		nonce, ours := strings.CutPrefix(e.Name(), filepath.Base(prefix))
		if !ours || !e.IsDir() || !isNonce(nonce) {
			continue
		}
		if err := sweepFolder(filepath.Join(filepath.Dir(prefix), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// sweepFolder removes a temporary folder unless somebody holds its lock.
func sweepFolder(dir string) error {
	f, err := os.Open(dir)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if !tryLockFile(f) {
		return nil
	}
	return os.RemoveAll(dir)
}
