package pytorch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mistura-project/mistura/python"
)

// Unpack writes the Python package into a folder below root (empty: the user's cache, or
// the temporary folder) and gives the folder, which belongs on PYTHONPATH. Its name is
// the digest of the files, so that programs of several versions do not disturb each
// other, and a folder that is there is whole.
func Unpack(root string) (string, error) {
	files := python.Files()
	digest, err := digestOf(files)
	if err != nil {
		return "", err
	}
	roots := []string{root}
	if root == "" {
		roots = []string{filepath.Join(os.TempDir(), fmt.Sprintf("mistura-%d", os.Getuid()))}
		if cache, err := os.UserCacheDir(); err == nil {
			roots = append([]string{filepath.Join(cache, "mistura")}, roots...)
		}
	}
	var failed error
	for _, root := range roots {
		dir := filepath.Join(root, "python-"+digest[:16])
		err := own(root)
		if err == nil {
			err = unpack(files, root, dir)
		}
		if err == nil {
			return dir, nil
		}
		failed = errors.Join(failed, err)
	}
	return "", fmt.Errorf("unpacking the Python package: %w; set XDG_CACHE_HOME to a folder of yours", failed)
}

// own makes a folder for this user only. What lies in one that others can write, or have
// put there first (a temporary folder is everybody's), would be run with this user's rights.
func own(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(root)
	if err != nil {
		return err
	}
	switch stat, ok := info.Sys().(*syscall.Stat_t); {
	case !info.IsDir():
		return fmt.Errorf("%s is no folder", root)
	case ok && int(stat.Uid) != os.Getuid():
		return fmt.Errorf("%s belongs to another user", root)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others (%v)", root, info.Mode().Perm())
	}
	return nil
}

// unpack makes the folder unless it is there: under another name first, so that nobody
// sees half of it.
func unpack(files fs.FS, root, dir string) error {
	if whole, err := digestOf(os.DirFS(dir)); err == nil && filepath.Base(dir) == "python-"+whole[:16] {
		return nil
	}
	part, err := os.MkdirTemp(root, "part-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(part) //nolint:errcheck // what is left of it harms nobody
	err = eachFile(files, func(name string, data []byte) error {
		path := filepath.Join(part, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil {
		return err
	}
	if err = os.Rename(part, dir); err == nil {
		return nil
	}
	if whole, err := digestOf(os.DirFS(dir)); err == nil && filepath.Base(dir) == "python-"+whole[:16] {
		return nil // another process was first
	}
	if err := os.RemoveAll(dir); err != nil { // somebody changed it
		return err
	}
	return os.Rename(part, dir)
}

// digestOf is over names and contents of the package's source files.
func digestOf(files fs.FS) (string, error) {
	sum := sha256.New()
	err := eachFile(files, func(name string, data []byte) error {
		fmt.Fprintf(sum, "%s %d\n", name, len(data))
		sum.Write(data)
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// eachFile goes through the package in the order of names; what Python puts beside its
// sources is none of it.
func eachFile(files fs.FS, do func(name string, data []byte) error) error {
	return fs.WalkDir(files, "mistura", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "__pycache__":
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		return do(name, data)
	})
}
