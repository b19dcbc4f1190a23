package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

var _ Sweeper = (*Folder)(nil)

// Sweep implements [Sweeper]: it removes temporary files whose writers are gone
// (killed, or their machine lost power), and folders that this leaves empty. Files
// that a live process is writing are locked and stay.
func (d *Folder) Sweep(ctx context.Context, prefix string) (removed int, err error) {
	var temps []string
	err = d.walkPrefix(ctx, prefix, func(name string, _ fs.FileInfo) error {
		if strings.HasPrefix(name, prefix) && strings.HasPrefix(path.Base(name), tempPrefix) {
			temps = append(temps, name)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("sweep %s: %w", d.root, err)
	}
	for _, name := range temps {
		gone, err := sweepFile(d.path(name))
		if err != nil {
			return removed, fmt.Errorf("sweep %s: %w", d.root, err)
		}
		if !gone {
			continue
		}
		removed++
		if err := d.tidy(path.Dir(name)); err != nil {
			return removed, fmt.Errorf("sweep %s: %w", d.root, err)
		}
	}
	return removed, nil
}

// sweepFile removes one temporary file unless somebody holds its lock. The lock is
// held until the file is removed: a writer that has just made it finds it gone and
// makes another.
func sweepFile(name string) (gone bool, err error) {
	f, err := os.Open(name)
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if !tryLockFile(f) {
		return false, nil
	}
	if err := os.Remove(name); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, nil
}
