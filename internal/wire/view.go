package wire

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// Bytes is AppendF32 of nothing and src. Where the machine stores numbers as the wire has them it
// is src's own memory and costs nothing, so neither may be changed while the other is in use.
func Bytes(src []float32) []byte {
	if len(src) == 0 || !asOnWire() {
		return AppendF32(nil, src)
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(src))), F32Bytes*len(src))
}

// Floats is DecodeF32 into n new elements. Where it can it gives src's own memory, which from
// there on belongs to the result.
func Floats(src []byte, n int) ([]float32, error) {
	if len(src) != F32Bytes*n {
		return nil, fmt.Errorf("wire: %d bytes for %d fp32 elements, want %d", len(src), n, F32Bytes*n)
	}
	at := unsafe.Pointer(unsafe.SliceData(src))
	if n == 0 || !asOnWire() || uintptr(at)%unsafe.Alignof(float32(0)) != 0 {
		dst := make([]float32, n)
		return dst, DecodeF32(dst, src)
	}
	return unsafe.Slice((*float32)(at), n), nil
}

// asOnWire: the machine stores the lowest byte of a number first.
func asOnWire() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }
