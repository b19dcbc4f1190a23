package store

import (
	"encoding/binary"
	"fmt"
	"math"
)

// WideBytes is the size of an element of a type whose every value is a float32, else 0.
func WideBytes(dtype string) int {
	switch dtype {
	case "F32":
		return 4
	case "BF16", "F16":
		return 2
	}
	return 0
}

// Widen is the i-th of little-endian elements of a type that WideBytes knows.
func Widen(in []byte, i int, dtype string) float32 {
	switch dtype {
	case "BF16":
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(in[2*i:])) << 16)
	case "F16":
		return fromHalf(binary.LittleEndian.Uint16(in[2*i:]))
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(in[4*i:]))
}

// fromHalf widens an IEEE 754 binary16 number; every one is a float32.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0: // zero or subnormal: fraction · 2^-24
		v := float32(fraction) * 0x1p-24
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// ReadAllWide is [Reader.ReadAll] for tensors of any type that float32 holds, all of them
// finite.
func (r *Reader) ReadAllWide(into []Tensor) error {
	if err := r.match(into, r.findWide); err != nil {
		return err
	}
	for _, t := range into {
		if err := r.ReadWide(t.Name, t.F32); err != nil {
			return err
		}
	}
	return nil
}

// MatchWide is the check of ReadAllWide alone: names, shapes and types.
func (r *Reader) MatchWide(tensors []Tensor) error { return r.match(tensors, r.findWide) }

// findWide finds a tensor of a type that float32 holds.
func (r *Reader) findWide(name string) (TensorInfo, error) {
	_, info, err := r.Section(name)
	if err == nil && WideBytes(info.Dtype) == 0 {
		err = r.fault(name, fmt.Sprintf("this tensor has type %s; F32, BF16 and F16 can be read", info.Dtype), nil)
	}
	return info, err
}

// ReadWide is [Reader.ReadF32] for tensors of any type that float32 holds. A value that
// is not finite is a *fault.Input that names the tensor.
func (r *Reader) ReadWide(name string, dst []float32) error {
	info, err := r.findWide(name)
	if err != nil {
		return err
	}
	section, _, _ := r.Section(name) // it is there
	size := WideBytes(info.Dtype)
	if have := (info.end - info.begin) / int64(size); have != int64(len(dst)) {
		return r.fault(name, fmt.Sprintf("this tensor has %d elements, %d are wanted", have, len(dst)), nil)
	}
	buf := make([]byte, size*min(convertFloats, len(dst)))
	for at := 0; at < len(dst); {
		piece := dst[at:min(len(dst), at+convertFloats)]
		in := buf[:size*len(piece)]
		if n, err := section.ReadAt(in, int64(size*at)); n < len(in) {
			return r.fault(name, "this tensor cannot be read", noEOF(err))
		}
		for i := range piece {
			piece[i] = Widen(in, i, info.Dtype)
			if nonFinite(piece[i]) {
				return r.fault(name, fmt.Sprintf("element %d of this tensor is %v", at+i, piece[i]), ErrNonFinite)
			}
		}
		at += len(piece)
	}
	return nil
}
