package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mistura-project/mistura/internal/fault"
)

// maxIndexBytes bounds an index that comes from elsewhere.
const maxIndexBytes = 1 << 20

// Copy makes dir a folder of tokens with a digest out of files that get writes, at most
// limit bytes each. It appears whole and verified, or not at all. Several processes may
// make the same folder at a time.
func Copy(ctx context.Context, dir, digest string, get func(name string, limit int64, w io.Writer) error) error {
	var raw bytes.Buffer
	if err := get(indexName, maxIndexBytes, &raw); err != nil {
		return err
	}
	x, err := decodeIndex(indexName, raw.Bytes())
	if err != nil {
		return err
	}
	if got := x.info().Digest; got != digest {
		return &fault.Input{Where: "tokens", Value: got, Problem: "is the digest of what was sent, the run's is " + digest, Next: "join again"}
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("copy tokens: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".copy-*")
	if err != nil {
		return fmt.Errorf("copy tokens: %w", err)
	}
	defer os.RemoveAll(temp)
	for _, p := range []part{x.Train, x.Valid} {
		if p.File != filepath.Base(p.File) {
			return &fault.Input{Where: "tokens", Value: p.File, Problem: "is no plain file name", Next: "use a coordinator of this program"}
		}
		if err := copyFile(filepath.Join(temp, p.File), p, get); err != nil {
			return err
		}
	}
	if err := seal(temp, x); err != nil {
		return err
	}
	set, err := Open(temp)
	if err != nil {
		return err
	}
	if err := errors.Join(set.Verify(ctx), set.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, dir); err != nil {
		if again, openErr := Open(dir); openErr == nil { // another process was faster
			return again.Close()
		}
		os.RemoveAll(dir) //nolint:errcheck // the next line says whether it is in the way
		if err = os.Rename(temp, dir); err != nil {
			return fmt.Errorf("copy tokens: %w", err)
		}
	}
	return nil
}

func copyFile(path string, p part, get func(string, int64, io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("copy tokens: %w", err)
	}
	if err := errors.Join(get(p.File, p.Bytes, f), f.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", p.File, err)
	}
	return nil
}
