package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"unicode/utf8"
)

// The safetensors layout (huggingface/safetensors, README "Format"): 8 bytes, the
// length n of the header, little-endian; n bytes of JSON, padded with spaces; then
// the tensors, little-endian, row-major, one behind the other without holes.

// Tensor is one fp32 tensor: Shape is row-major and its product is len(F32); an
// empty shape is a scalar.
type Tensor struct {
	Name  string
	Shape []int
	F32   []float32
}

func (t Tensor) info() TensorInfo { return TensorInfo{Name: t.Name, Dtype: "F32", Shape: t.Shape} }

const (
	headerLengthBytes = 8
	headerAlign       = 8         // of the first tensor's byte
	maxHeaderBytes    = 100 << 20 // as in the reference implementation
	metadataKey       = "__metadata__"
	convertFloats     = 64 << 10 // floats converted at a time
)

// headerEntry is a tensor in the header. Field order is the order on disk.
type headerEntry struct {
	Dtype   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// SafetensorsSize is the number of bytes that WriteSafetensors writes; the tensors'
// values may be absent.
func SafetensorsSize(tensors []Tensor, meta map[string]string) (int64, error) {
	header, dataBytes, err := encodeHeader(infosOf(tensors, Tensor.info), meta)
	if err != nil {
		return 0, fmt.Errorf("size of safetensors: %w", err)
	}
	return headerLengthBytes + int64(len(header)) + dataBytes, nil
}

// WriteSafetensors writes tensors in the order given, with meta as the header's
// metadata. Equal input gives equal bytes. It converts a piece at a time and holds
// no copy of the tensors.
func WriteSafetensors(w io.Writer, tensors []Tensor, meta map[string]string) error {
	if err := writeSafetensors(w, tensors, meta); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	return nil
}

func writeSafetensors(w io.Writer, tensors []Tensor, meta map[string]string) error {
	header, _, err := encodeHeader(infosOf(tensors, Tensor.info), meta)
	if err != nil {
		return err
	}
	for _, t := range tensors {
		if n, _ := elements(t.Shape); n != int64(len(t.F32)) {
			return fmt.Errorf("tensor %s: shape %v has %d elements, %d are given", t.Name, t.Shape, n, len(t.F32))
		}
	}
	length := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	if _, err := w.Write(append(length, header...)); err != nil {
		return err
	}
	buf := make([]byte, 4*convertFloats)
	for _, t := range tensors {
		if err := writeFloats(w, t.F32, buf); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
	}
	return nil
}

func writeFloats(w io.Writer, values []float32, buf []byte) error {
	for piece := range slices.Chunk(values, len(buf)/4) {
		out := buf[:4*len(piece)]
		for i, v := range piece {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
	return nil
}

// encodeHeader gives the padded JSON header and the bytes of all tensors. It is
// written by hand because the order of keys matters.
func encodeHeader(tensors []TensorInfo, meta map[string]string) (header []byte, dataBytes int64, err error) {
	var out bytes.Buffer
	out.WriteByte('{')
	if len(meta) > 0 {
		if err := writeMeta(&out, meta); err != nil {
			return nil, 0, err
		}
	}
	seen := make(map[string]bool, len(tensors))
	for _, t := range tensors {
		entry, err := entryOf(t, dataBytes)
		if err == nil && (t.Name == "" || t.Name == metadataKey || seen[t.Name]) {
			err = errors.New("the name is empty, reserved or used twice")
		}
		if err == nil {
			err = writeMember(&out, t.Name, entry)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		seen[t.Name] = true
		dataBytes = entry.Offsets[1]
	}
	out.WriteByte('}')
	for (headerLengthBytes+out.Len())%headerAlign != 0 {
		out.WriteByte(' ')
	}
	if out.Len() > maxHeaderBytes {
		return nil, 0, fmt.Errorf("header of %d bytes: at most %d are allowed", out.Len(), maxHeaderBytes)
	}
	return out.Bytes(), dataBytes, nil
}

func entryOf(t TensorInfo, begin int64) (headerEntry, error) {
	size := dtypeBytes(t.Dtype)
	if size == 0 {
		return headerEntry{}, fmt.Errorf("type %q is not known", t.Dtype)
	}
	n, err := elements(t.Shape)
	if err != nil {
		return headerEntry{}, err
	}
	if n > (math.MaxInt64-begin)/size {
		return headerEntry{}, errors.New("the file would be too large")
	}
	shape := t.Shape
	if shape == nil {
		shape = []int{} // a scalar, not null
	}
	return headerEntry{Dtype: t.Dtype, Shape: shape, Offsets: [2]int64{begin, begin + size*n}}, nil
}

// elements is the product of a shape.
func elements(shape []int) (int64, error) {
	n := int64(1)
	for _, extent := range shape {
		if extent < 0 {
			return 0, fmt.Errorf("shape %v has a negative extent", shape)
		}
		if extent > 0 && n > math.MaxInt64/int64(extent) {
			return 0, fmt.Errorf("shape %v is too large", shape)
		}
		n *= int64(extent)
	}
	return n, nil
}

func writeMeta(out *bytes.Buffer, meta map[string]string) error {
	var members bytes.Buffer
	members.WriteByte('{')
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if !utf8.ValidString(meta[key]) {
			return fmt.Errorf("metadata %q: is not UTF-8", key)
		}
		if err := writeMember(&members, key, meta[key]); err != nil {
			return fmt.Errorf("metadata %q: %w", key, err)
		}
	}
	members.WriteByte('}')
	return writeMember(out, metadataKey, json.RawMessage(members.Bytes()))
}

// writeMember adds a member to a JSON object that is being written.
func writeMember(out *bytes.Buffer, key string, value any) error {
	if !utf8.ValidString(key) { // would be altered, perhaps to another key
		return errors.New("is not UTF-8")
	}
	keyJSON, err := json.Marshal(key)
	if err != nil {
		return err
	}
	valueJSON, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if out.Bytes()[out.Len()-1] != '{' {
		out.WriteByte(',')
	}
	out.Write(keyJSON)
	out.WriteByte(':')
	out.Write(valueJSON)
	return nil
}
