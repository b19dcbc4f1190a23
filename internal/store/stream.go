package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mistura-project/mistura/internal/fault"
)

// Stream is a tensor of any type whose bytes are made while they are written, so
// that a model larger than memory can pass through.
type Stream struct {
	Name  string
	Dtype string                  // of safetensors: "F32", "BF16" …
	Shape []int                   // row-major
	Write func(w io.Writer) error // writes exactly the tensor's bytes, little-endian
}

func (s Stream) info() TensorInfo { return TensorInfo{Name: s.Name, Dtype: s.Dtype, Shape: s.Shape} }

// StreamsSize is the number of bytes that WriteStreams writes.
func StreamsSize(tensors []Stream, meta map[string]string) (int64, error) {
	header, dataBytes, err := encodeHeader(infosOf(tensors, Stream.info), meta)
	if err != nil {
		return 0, fmt.Errorf("size of safetensors: %w", err)
	}
	return headerLengthBytes + int64(len(header)) + dataBytes, nil
}

// WriteStreams is [WriteSafetensors] for tensors that are made while they are
// written. One that writes more or fewer bytes than its shape has is an error.
func WriteStreams(w io.Writer, tensors []Stream, meta map[string]string) error {
	header, _, err := encodeHeader(infosOf(tensors, Stream.info), meta)
	if err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	length := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	if _, err := w.Write(append(length, header...)); err != nil {
		return fmt.Errorf("write safetensors: %w", err)
	}
	for _, t := range tensors {
		if err := writeStream(w, t); err != nil {
			return fmt.Errorf("write safetensors: tensor %s: %w", t.Name, err)
		}
	}
	return nil
}

func writeStream(w io.Writer, t Stream) error {
	n, err := elements(t.Shape)
	if err != nil {
		return err
	}
	counted := &countWriter{w: w, left: n * dtypeBytes(t.Dtype)}
	if err := t.Write(counted); err != nil {
		return err
	}
	if counted.left != 0 {
		return fmt.Errorf("%d bytes of it were not written", counted.left)
	}
	return nil
}

// countWriter lets as many bytes pass as were announced.
type countWriter struct {
	w    io.Writer
	left int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		return 0, errors.New("more bytes were written than its shape has")
	}
	n, err := c.w.Write(p)
	c.left -= int64(n)
	return n, err
}

// Streams writes a part in safetensors format from tensors that are made while they
// are written. Finite values are their makers' to see to.
func (w *Writer) Streams(ctx context.Context, part string, tensors []Stream, meta map[string]string) error {
	return w.write(part, func(name string) (Object, error) {
		return w.st.Put(ctx, name, func(out io.Writer) error { return WriteStreams(out, tensors, meta) })
	})
}

// Section gives the bytes of a tensor of any type and what it is. A tensor that is
// missing is a *fault.Input that names it.
func (r *Reader) Section(name string) (*io.SectionReader, TensorInfo, error) {
	i, ok := r.index[name]
	if !ok {
		return nil, TensorInfo{}, r.fault(name, "this tensor is missing", nil)
	}
	info := r.tensors[i]
	return io.NewSectionReader(r.r, r.data+info.begin, info.end-info.begin), info, nil
}

// OpenTensorFile opens a safetensors file that stands by itself.
func OpenTensorFile(path string) (*TensorFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &fault.Input{Where: path, Problem: "cannot be read", Next: "put the file in its place", Err: err}
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	if !info.Mode().IsRegular() {
		return nil, errors.Join(&fault.Input{Where: path, Problem: "is not a file", Next: "put the file in its place"}, f.Close())
	}
	r, err := openSafetensors(path, f, info.Size())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &TensorFile{Reader: r, file: f}, nil
}

// infosOf describes tensors for a header.
func infosOf[T any](tensors []T, info func(T) TensorInfo) []TensorInfo {
	out := make([]TensorInfo, len(tensors))
	for i, t := range tensors {
		out[i] = info(t)
	}
	return out
}
