package gathered

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// Digest is the SHA-256 of what a slot holds: over its tensors in the run's order, the name,
// a zero byte and the SHA-256 of the tensor's fp32 values, little-endian and row-major.
func Digest(tensors []store.Tensor) string {
	sums := make([][sha256.Size]byte, len(tensors))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, t := range tensors {
		group.Go(func() error {
			sums[i] = tensorSum(t.F32)
			return nil
		})
	}
	group.Wait() //nolint:errcheck // none fails
	h := sha256.New()
	for i, t := range tensors {
		add(h, t.Name, sums[i])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func add(h hash.Hash, name string, sum [sha256.Size]byte) {
	h.Write(append([]byte(name), 0))
	h.Write(sum[:])
}

// tensorSum takes a tensor a piece at a time: a piece stays in the core's cache.
func tensorSum(values []float32) (sum [sha256.Size]byte) {
	const pieceFloats = 16 << 10
	h := sha256.New()
	buf := make([]byte, 0, wire.F32Bytes*min(len(values), pieceFloats))
	for piece := range slices.Chunk(values, pieceFloats) {
		h.Write(wire.AppendF32(buf[:0], piece))
	}
	h.Sum(sum[:0])
	return sum
}
