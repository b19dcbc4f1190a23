package corpus

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

// kind is how a file is read.
type kind int

const (
	plainText kind = iota // one document, long files several
	jsonLines             // one document a line
	goSource              // plain text, left out when generated
)

// file is one input file.
type file struct {
	path  string
	kind  kind
	size  int64
	order string // where it stands among the files of its folder
}

// list finds the files of a spec in the order in which they are read: paths as they
// are given, files of a folder sorted by their path in it. source tells people what
// they are. Nothing is read but the beginning of some files.
func list(ctx context.Context, spec Spec) (files []file, source string, err error) {
	if len(spec.Paths) == 0 {
		return listGo(ctx)
	}
	for _, path := range spec.Paths {
		found, err := listPath(ctx, path)
		if err != nil {
			return nil, "", err
		}
		files = append(files, found...)
	}
	return files, describe(spec.Paths), nil
}

// describe names paths for people.
func describe(paths []string) string {
	const shown = 3
	if len(paths) <= shown {
		return strings.Join(paths, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(paths[:shown], ", "), len(paths)-shown)
}

func listPath(ctx context.Context, path string) ([]file, error) {
	stat, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &fault.Input{Where: path, Problem: "there is no such file or folder", Next: "check the path given with --data"}
	case err != nil:
		return nil, unreadable(path, err)
	case stat.IsDir():
		return listFolder(ctx, path)
	case !stat.Mode().IsRegular():
		return nil, &fault.Input{Where: path, Problem: "is neither a file nor a folder", Next: "give files or folders with --data"}
	}
	f := file{path: path, kind: kindOf(path), size: stat.Size()}
	if binary, err := looksBinary(path); err != nil {
		return nil, unreadable(path, err)
	} else if binary {
		return nil, &fault.Input{Where: path, Problem: "is not text, it holds a zero byte", Next: "unpack or convert it to text or JSON Lines"}
	}
	return []file{f}, nil
}

// listFolder lists a folder and all below it. Case E6: a folder without data files
// is refused, not read for ever.
func listFolder(ctx context.Context, path string) ([]file, error) {
	files, err := walk(ctx, path, func(name string) bool { return true })
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if files[i].kind, err = kindInFolder(f.path); err != nil {
			return nil, unreadable(f.path, err)
		}
	}
	for _, f := range files {
		if binary, err := looksBinary(f.path); err != nil {
			return nil, unreadable(f.path, err)
		} else if !binary && f.size > 0 {
			return files, nil
		}
	}
	return nil, &fault.Input{Where: path, Problem: "holds no data files; looked in it and below for text (*) and JSON Lines (*.jsonl, *.ndjson, *.json), hidden and binary files left out",
		Next: "give a file or another folder with --data"}
}

// walk lists the regular files below root whose name is wanted, hidden ones left
// out, sorted by their slash-separated path. Links to files are followed, links to
// folders only at the root.
func walk(ctx context.Context, root string, wanted func(name string) bool) ([]file, error) {
	resolved, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, unreadable(root, err)
	}
	var files []file
	err = filepath.WalkDir(resolved, func(path string, entry fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		hidden := strings.HasPrefix(entry.Name(), ".") && path != resolved
		switch {
		case hidden && entry.IsDir():
			return fs.SkipDir
		case hidden:
			return nil
		case entry.IsDir():
			if path != resolved && !wanted(entry.Name()+"/") {
				return fs.SkipDir
			}
			return nil
		case !wanted(entry.Name()):
			return nil
		}
		stat, err := os.Stat(path)
		if err != nil || !stat.Mode().IsRegular() {
			return nil // a dangling link, a socket
		}
		relative, err := filepath.Rel(resolved, path)
		files = append(files, file{path: path, size: stat.Size(), order: filepath.ToSlash(relative)})
		return err
	})
	if err != nil {
		return nil, unreadable(root, err)
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.order, b.order) })
	return files, nil
}

func kindOf(path string) kind {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".jsonl", ".ndjson", ".json":
		return jsonLines
	}
	return plainText
}

// kindInFolder is kindOf, but a .json file that was not named by the user is JSON
// Lines only when its first line is an object: folders of source code hold others.
func kindInFolder(path string) (kind, error) {
	if k := kindOf(path); k != jsonLines || strings.ToLower(filepath.Ext(path)) != ".json" {
		return k, nil
	}
	head, err := readHead(path, 64<<10)
	if err != nil {
		return plainText, err
	}
	line, _, ended := bytes.Cut(bytes.TrimLeft(withoutMark(head), " \t\r\n"), []byte("\n"))
	if bytes.HasPrefix(line, []byte("{")) && (json.Valid(line) || !ended && len(head) == 64<<10) {
		return jsonLines, nil
	}
	return plainText, nil
}

// looksBinary tells whether a file holds a zero byte near its beginning, which no
// text does.
func looksBinary(path string) (bool, error) {
	head, err := readHead(path, sniffBytes)
	return isBinary(head), err
}

// sniffBytes is how much of a file is looked at to tell text from binary.
const sniffBytes = 8 << 10

func isBinary(data []byte) bool {
	return bytes.IndexByte(data[:min(len(data), sniffBytes)], 0) >= 0
}

func readHead(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(n)))
}

func unreadable(path string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &fault.Input{Where: path, Problem: "cannot be read", Next: "check its permissions or leave it out", Err: err}
}
