package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Copy gives an object's content a second name, where it can without a second copy on the disk:
// objects do not change. What has that name is replaced.
func Copy(ctx context.Context, st Store, from, to string) error {
	for _, name := range []string{from, to} {
		if err := enter(ctx, name); err != nil {
			return err
		}
	}
	if d, ok := st.(*Folder); ok && d.link(from, to) == nil {
		return nil
	}
	f, size, err := st.Open(ctx, from)
	if err != nil {
		return fmt.Errorf("copy to %s: %w", to, err)
	}
	_, err = st.Put(ctx, to, func(w io.Writer) error {
		_, err := io.Copy(w, io.NewSectionReader(f, 0, size))
		return err
	})
	return errors.Join(err, f.Close())
}

func (d *Folder) link(from, to string) error {
	final := d.path(to)
	err := makeDirs(filepath.Dir(final))
	if err == nil {
		err = os.Link(d.path(from), final)
	}
	if err != nil && !sameFile(d.path(from), final) {
		return err
	}
	return syncDir(filepath.Dir(final))
}
