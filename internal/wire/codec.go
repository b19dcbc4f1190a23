package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// F32Bytes is the encoded size of one fp32 element.
const F32Bytes = 4

// AppendF32 appends src to dst, four little-endian bytes an element, and
// returns the longer slice. Every bit pattern survives, NaN payloads included.
func AppendF32(dst []byte, src []float32) []byte {
	at := len(dst)
	dst = slices.Grow(dst, F32Bytes*len(src))[:at+F32Bytes*len(src)]
	out := dst[at:]
	for len(src) >= 4 {
		v, b := src[:4:4], out[:16:16]
		binary.LittleEndian.PutUint64(b[0:8], pair(v[0], v[1]))
		binary.LittleEndian.PutUint64(b[8:16], pair(v[2], v[3]))
		src, out = src[4:], out[16:]
	}
	for i, v := range src {
		binary.LittleEndian.PutUint32(out[F32Bytes*i:], math.Float32bits(v))
	}
	return dst
}

// pair packs two elements as they stand in memory, a first.
func pair(a, b float32) uint64 {
	return uint64(math.Float32bits(a)) | uint64(math.Float32bits(b))<<32
}

// DecodeF32 fills dst from src, which must hold exactly len(dst) elements as
// AppendF32 writes them.
func DecodeF32(dst []float32, src []byte) error {
	if len(src) != F32Bytes*len(dst) {
		return fmt.Errorf("wire: %d bytes for %d fp32 elements, want %d", len(src), len(dst), F32Bytes*len(dst))
	}
	for len(dst) >= 4 {
		v, b := dst[:4:4], src[:16:16]
		lo, hi := binary.LittleEndian.Uint64(b[0:8]), binary.LittleEndian.Uint64(b[8:16])
		v[0], v[1] = math.Float32frombits(uint32(lo)), math.Float32frombits(uint32(lo>>32))
		v[2], v[3] = math.Float32frombits(uint32(hi)), math.Float32frombits(uint32(hi>>32))
		dst, src = dst[4:], src[16:]
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[F32Bytes*i:]))
	}
	return nil
}

// Digest is the SHA-256 of a payload, as it stands in payload_digest.
func Digest(payload []byte) []byte {
	sum := sha256.Sum256(payload)
	return sum[:]
}
