package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Errors that callers tell apart with errors.Is. Anything else is a failure of the
// store itself, and the operation may be tried again.
var (
	// ErrExists: Create found the name in use.
	ErrExists = errors.New("object exists already")
	// ErrNotFound: there is no object of that name.
	ErrNotFound = errors.New("object not found")
	// ErrFull: no space is left, or a quota is used up. Nothing was replaced.
	ErrFull = errors.New("store is full")
)

// Object is one stored object.
type Object struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`             // bytes
	SHA256 string `json:"sha256,omitempty"` // hex, lower case; empty where it was not computed
}

// File is an open object. It does not change while it is open, and ReadAt may be
// called by several goroutines.
type File interface {
	io.ReaderAt
	io.Closer
}

// Store is a flat space of objects; a name is a path of slash-separated elements
// (see [CheckName]). Every method may be called by many goroutines and, for
// stores that others can reach, by many processes. An object appears whole and
// durable or not at all. Methods block until they are done or ctx ends.
type Store interface {
	// Create makes an object if the name is free and fails with ErrExists if it
	// is not: of any number of racing calls exactly one succeeds. After any other
	// error the object may or may not exist. Not idempotent.
	Create(ctx context.Context, name string, data []byte) error

	// Put makes or replaces an object with what write produces, and reports its
	// size and digest. If write fails or ctx ends, the old object stays. Safe to
	// repeat.
	Put(ctx context.Context, name string, write func(io.Writer) error) (Object, error)

	// Open gives an object and its size in bytes, or ErrNotFound. The caller
	// closes the file.
	Open(ctx context.Context, name string) (File, int64, error)

	// List gives name and size of the objects whose names begin with prefix,
	// sorted by name as bytes. Objects that come or go meanwhile may be missed.
	List(ctx context.Context, prefix string) ([]Object, error)

	// Delete removes an object, or fails with ErrNotFound.
	Delete(ctx context.Context, name string) error

	// FreeBytes is the space left for new objects; known is false where the
	// store cannot tell.
	FreeBytes(ctx context.Context) (n int64, known bool, err error)

	// Location names the store to a user: a path or an address.
	Location() string
}

// Sweeper is a store in which writers that were killed leave something behind.
type Sweeper interface {
	// Sweep removes what dead writers left of unfinished objects whose names
	// begin with prefix, a folder ("" or "checkpoints/"), and reports how many.
	// Live writers are not disturbed, in this process and in others. Safe at any
	// time and to repeat.
	Sweep(ctx context.Context, prefix string) (removed int, err error)
}

// Limits of names. Elements stay below what file systems allow, so that a driver
// can add to them.
const (
	maxNameBytes    = 1000
	maxElementBytes = 200
)

// CheckName reports whether name can name an object: elements of ASCII letters,
// digits and "._-=" between single slashes, none of them beginning with a dot.
// Names that begin with a dot are left to drivers.
func CheckName(name string) error {
	if len(name) > maxNameBytes {
		return fmt.Errorf("object name of %d bytes: at most %d are allowed", len(name), maxNameBytes)
	}
	for element := range strings.SplitSeq(name, "/") {
		if err := checkElement(element); err != nil {
			return fmt.Errorf("object name %q: %w", name, err)
		}
	}
	return nil
}

func checkElement(element string) error {
	switch {
	case element == "":
		return errors.New("an element is empty")
	case element[0] == '.':
		return fmt.Errorf("element %q begins with a dot", element)
	case len(element) > maxElementBytes:
		return fmt.Errorf("an element has %d bytes, at most %d are allowed", len(element), maxElementBytes)
	}
	for _, c := range []byte(element) {
		if !nameByte(c) {
			return fmt.Errorf("character %q is not allowed", c)
		}
	}
	return nil
}

func nameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '.' || c == '_' || c == '-' || c == '='
}

// enter is what every method that takes a name begins with.
func enter(ctx context.Context, name string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return CheckName(name)
}

// Get reads a small object whole. An object of more than limit bytes is an error.
func Get(ctx context.Context, st Store, name string, limit int64) ([]byte, error) {
	f, size, err := st.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return readWhole(f, name, size, limit)
}

// readWhole reads an open object and closes it.
func readWhole(f File, name string, size, limit int64) ([]byte, error) {
	defer f.Close()
	if size > limit {
		return nil, fmt.Errorf("read %s: %d bytes, at most %d are expected", name, size, limit)
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); int64(n) < size {
		return nil, fmt.Errorf("read %s: %w", name, noEOF(err))
	}
	return data, nil
}

// noEOF turns the end of a file that should have been longer into an error that
// says so.
func noEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
