package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
)

// digestWriter passes bytes on, counts and digests them, and stops when its
// context ends.
type digestWriter struct {
	ctx  context.Context
	w    io.Writer
	hash hash.Hash
	size int64
}

func newDigestWriter(ctx context.Context, w io.Writer) *digestWriter {
	return &digestWriter{ctx: ctx, w: w, hash: sha256.New()}
}

func (d *digestWriter) Write(p []byte) (int, error) {
	if err := context.Cause(d.ctx); err != nil {
		return 0, err
	}
	n, err := d.w.Write(p)
	d.hash.Write(p[:n])
	d.size += int64(n)
	return n, err
}

func (d *digestWriter) object(name string) Object {
	return Object{Name: name, Size: d.size, SHA256: hex.EncodeToString(d.hash.Sum(nil))}
}

// digestBufferBytes is large enough to hide the cost of a read and small enough to
// stay in a core's cache.
const digestBufferBytes = 256 << 10

// Digest reads size bytes of r and gives their SHA-256 in hex.
func Digest(ctx context.Context, r io.ReaderAt, size int64) (string, error) {
	d := newDigestWriter(ctx, io.Discard)
	n, err := io.CopyBuffer(d, io.NewSectionReader(r, 0, size), make([]byte, digestBufferBytes))
	if err != nil {
		return "", err
	}
	if n < size {
		return "", fmt.Errorf("after %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	return d.object("").SHA256, nil
}

func digestBytes(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// CompareFile says how a file of this machine, which need not be in a store, differs from
// what was noted of it; nothing when it does not.
func CompareFile(ctx context.Context, path string, size int64, sha256hex string) string {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Sprintf("cannot be read (%v)", errors.Unwrap(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() != size {
		return fmt.Sprintf("has %d bytes, the checkpoint says %d", info.Size(), size)
	}
	found := ""
	if err == nil {
		found, err = Digest(ctx, f, size)
	}
	switch {
	case err != nil:
		return fmt.Sprintf("cannot be read (%v)", err)
	case found != sha256hex:
		return fmt.Sprintf("has SHA-256 %.12s…, the checkpoint says %.12s…", found, sha256hex)
	}
	return ""
}
