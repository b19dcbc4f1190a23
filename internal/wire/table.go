package wire

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// TensorShape is a tensor of a model, as far as both sides must agree.
type TensorShape struct {
	Name  string
	Shape []int // extents, outermost first; none: one element
}

// tableMagic begins what TableDigest hashes.
const tableMagic = "mistura tensors 1\n"

// TableDigest is the SHA-256 that says which model is trained: of names and shapes of its
// tensors, in whatever order they are listed. After tableMagic it takes, by ascending
// name in bytes: length of the name, the name, number of extents, the extents; numbers
// are unsigned varints. Names differ from each other.
func TableDigest(tensors []TensorShape) []byte {
	sorted := slices.SortedFunc(slices.Values(tensors), func(a, b TensorShape) int { return cmp.Compare(a.Name, b.Name) })
	h := sha256.New()
	h.Write([]byte(tableMagic))
	var buf []byte
	for _, t := range sorted {
		buf = binary.AppendUvarint(buf[:0], uint64(len(t.Name)))
		buf = append(buf, t.Name...)
		buf = binary.AppendUvarint(buf, uint64(len(t.Shape)))
		for _, d := range t.Shape {
			buf = binary.AppendUvarint(buf, uint64(d))
		}
		h.Write(buf)
	}
	return h.Sum(nil)
}
