package store

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/mistura-project/mistura/internal/fault"
)

// Reader reads tensors of one safetensors file. Its header is checked when it is
// opened: types, shapes, bounds, no holes, no overlaps, no name twice. Several
// goroutines may read at once.
type Reader struct {
	where   string // the file, for errors
	r       io.ReaderAt
	data    int64 // offset of the first tensor's byte
	tensors []TensorInfo
	index   map[string]int
	meta    map[string]string
}

const restoreNext = "put the file back from a copy or use another checkpoint"

// OpenSafetensors reads and checks the header of a safetensors file of size bytes.
func OpenSafetensors(r io.ReaderAt, size int64) (*Reader, error) {
	return openSafetensors("safetensors", r, size)
}

// openSafetensors names the file in all errors.
func openSafetensors(where string, r io.ReaderAt, size int64) (*Reader, error) {
	header, err := readHeader(r, size)
	if err != nil {
		return nil, damagedTensors(where, err)
	}
	data := headerLengthBytes + int64(len(header))
	tensors, meta, err := decodeTensorHeader(header, size-data)
	if err != nil {
		return nil, damagedTensors(where, err)
	}
	index := make(map[string]int, len(tensors))
	for i, t := range tensors {
		index[t.Name] = i
	}
	return &Reader{where: where, r: r, data: data, tensors: tensors, index: index, meta: meta}, nil
}

func damagedTensors(where string, err error) error {
	return &fault.Input{Where: where, Problem: "is not a usable safetensors file", Next: restoreNext, Err: err}
}

func readHeader(r io.ReaderAt, size int64) ([]byte, error) {
	var prefix [headerLengthBytes]byte
	if n, err := r.ReadAt(prefix[:], 0); n < len(prefix) {
		return nil, fmt.Errorf("the length of the header: %w", noEOF(err))
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > maxHeaderBytes || int64(length) > size-headerLengthBytes {
		return nil, fmt.Errorf("a header of %d bytes does not fit in %d bytes (limit %d)", length, size, maxHeaderBytes)
	}
	header := make([]byte, length)
	if n, err := r.ReadAt(header, headerLengthBytes); n < len(header) {
		return nil, fmt.Errorf("the header: %w", noEOF(err))
	}
	return header, nil
}

// Tensors lists the tensors in the order in which they lie in the file.
func (r *Reader) Tensors() []TensorInfo { return slices.Clone(r.tensors) }

// Meta is the header's metadata. The caller does not alter it.
func (r *Reader) Meta() map[string]string { return r.meta }

// ReadF32 fills dst with the tensor of that name. dst must have as many elements as
// the tensor, which must be F32. A tensor that is missing or different is a
// *fault.Input that names it.
func (r *Reader) ReadF32(name string, dst []float32) error {
	return r.read(name, dst, make([]byte, 4*min(convertFloats, len(dst))))
}

func (r *Reader) read(name string, dst []float32, buf []byte) error {
	info, err := r.find(name)
	if err != nil {
		return err
	}
	if have := (info.end - info.begin) / 4; have != int64(len(dst)) {
		return r.fault(name, fmt.Sprintf("this tensor has %d elements, %d are wanted", have, len(dst)), nil)
	}
	if err := readFloats(r.r, r.data+info.begin, dst, buf); err != nil {
		return r.fault(name, "this tensor cannot be read", err)
	}
	return nil
}

// ReadAll fills every given tensor by name. Before the first byte is read it checks
// that the file holds just these tensors with just these shapes: nothing stays as
// it was, nothing in the file is passed over.
func (r *Reader) ReadAll(into []Tensor) error {
	if err := r.match(into, r.find); err != nil {
		return err
	}
	buf := make([]byte, 4*convertFloats)
	for _, t := range into {
		if err := r.read(t.Name, t.F32, buf); err != nil {
			return err
		}
	}
	return nil
}

// match compares names and shapes, and with find the types of the elements.
func (r *Reader) match(into []Tensor, find func(name string) (TensorInfo, error)) error {
	wanted := make(map[string]bool, len(into))
	for _, t := range into {
		info, err := find(t.Name)
		if err != nil {
			return err
		}
		if !slices.Equal(info.Shape, t.Shape) {
			return r.fault(t.Name, fmt.Sprintf("this tensor has shape %v, %v is wanted", info.Shape, t.Shape), nil)
		}
		wanted[t.Name] = true
	}
	for _, info := range r.tensors {
		if !wanted[info.Name] {
			return r.fault(info.Name, "this tensor does not belong to the model", nil)
		}
	}
	return nil
}

func (r *Reader) find(name string) (TensorInfo, error) {
	i, ok := r.index[name]
	if !ok {
		return TensorInfo{}, r.fault(name, "this tensor is missing", nil)
	}
	if info := r.tensors[i]; info.Dtype == "F32" {
		return info, nil
	}
	return TensorInfo{}, r.fault(name, fmt.Sprintf("this tensor has type %s, F32 is wanted", r.tensors[i].Dtype), nil)
}

func (r *Reader) fault(tensor, problem string, err error) error {
	return &fault.Input{Where: r.where, Value: tensor, Problem: problem, Next: restoreNext, Err: err}
}

// readFloats converts little-endian floats from a place of a file, a piece at a
// time; buf takes the bytes of a piece.
func readFloats(r io.ReaderAt, offset int64, dst []float32, buf []byte) error {
	for len(dst) > 0 {
		piece := dst[:min(len(dst), len(buf)/4)]
		in := buf[:4*len(piece)]
		if n, err := r.ReadAt(in, offset); n < len(in) {
			return noEOF(err)
		}
		for i := range piece {
			piece[i] = math.Float32frombits(binary.LittleEndian.Uint32(in[4*i:]))
		}
		offset += int64(len(in))
		dst = dst[len(piece):]
	}
	return nil
}
