package fragment

import (
	"crypto/sha256"

	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/wire"
)

// Fragment is one unit of exchange: tensors in model order.
type Fragment struct {
	Tensors []model.Tensor
	Sizes   []int // elements of each
	Size    int   // elements in all
}

// Split partitions a model's tensors into at most count fragments of about equal size.
func Split(tensors []model.Tensor, count int) []Fragment {
	sizes := make([]int, len(tensors))
	for i, t := range tensors {
		sizes[i] = t.Size()
	}
	var out []Fragment
	for _, members := range outer.Partition(sizes, count) {
		var f Fragment
		for _, i := range members {
			f.Tensors = append(f.Tensors, tensors[i])
			f.Sizes = append(f.Sizes, sizes[i])
			f.Size += sizes[i]
		}
		out = append(out, f)
	}
	return out
}

// Gather copies the fragment's part of a model's flat vector to dst [Size].
func (f Fragment) Gather(dst, flat []float32) {
	at := 0
	for _, t := range f.Tensors {
		at += copy(dst[at:], flat[t.Offset:t.Offset+t.Size()])
	}
}

// Scatter copies src [Size] to the fragment's part of a model's flat vector.
func (f Fragment) Scatter(flat, src []float32) {
	at := 0
	for i, t := range f.Tensors {
		copy(flat[t.Offset:t.Offset+f.Sizes[i]], src[at:at+f.Sizes[i]])
		at += f.Sizes[i]
	}
}

// Digests is the SHA-256 of each tensor's little-endian fp32 bytes, in the
// fragment's order, for src [Size].
func (f Fragment) Digests(src []float32) [][]byte {
	out := make([][]byte, len(f.Sizes))
	at := 0
	for i, n := range f.Sizes {
		sum := sha256.Sum256(wire.Bytes(src[at : at+n]))
		out[i] = sum[:]
		at += n
	}
	return out
}
