package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Incoming is a safetensors file that comes in as a stream: its header is checked, its
// tensors are still to be read.
type Incoming struct {
	Tensors []TensorInfo // in the order in which they come
	Meta    map[string]string

	head []byte // length and header, as they came
	data int64  // bytes of all tensors
	r    io.Reader
}

// OpenIncoming reads the header of a safetensors file from r. Errors are what is wrong
// with it, or those of r.
func OpenIncoming(r io.Reader) (*Incoming, error) {
	head := make([]byte, headerLengthBytes)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("the length of the header: %w", noEOF(err))
	}
	length := binary.LittleEndian.Uint64(head)
	if length > maxHeaderBytes {
		return nil, fmt.Errorf("a header of %d bytes is above the limit of %d", length, maxHeaderBytes)
	}
	header, err := io.ReadAll(io.LimitReader(r, int64(length))) // grows with what comes
	if err == nil && len(header) < int(length) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("the header: %w", err)
	}
	in := &Incoming{head: append(head, header...), r: r}
	if in.Tensors, in.Meta, err = decodeTensorHeader(header, -1); err != nil {
		return nil, err
	}
	for _, t := range in.Tensors {
		in.data = max(in.data, t.end)
	}
	return in, nil
}

// Bytes is the size of the whole file.
func (in *Incoming) Bytes() int64 { return int64(len(in.head)) + in.data }

// CopyFinite copies the whole file to w. All tensors must be F32 and finite, and nothing
// may follow the last; what is wrong is said of the tensor.
func (in *Incoming) CopyFinite(w io.Writer) error {
	if _, err := w.Write(in.head); err != nil {
		return err
	}
	buf := make([]byte, 4*convertFloats)
	for _, t := range in.Tensors {
		if t.Dtype != "F32" {
			return fmt.Errorf("tensor %s has type %s, F32 is wanted", t.Name, t.Dtype)
		}
		if err := in.copyTensor(w, t, buf); err != nil {
			return fmt.Errorf("tensor %s: %w", t.Name, err)
		}
	}
	switch _, err := io.ReadFull(in.r, buf[:1]); {
	case err == nil:
		return errors.New("something follows the last tensor")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

func (in *Incoming) copyTensor(w io.Writer, t TensorInfo, buf []byte) error {
	for left, at := t.end-t.begin, 0; left > 0; {
		piece := buf[:min(left, int64(len(buf)))]
		if n, err := io.ReadFull(in.r, piece); err != nil {
			return fmt.Errorf("%d of its %d bytes are missing: %w", left-int64(n), t.end-t.begin, noEOF(err))
		}
		for i := 0; i < len(piece); i += 4 {
			if v := math.Float32frombits(binary.LittleEndian.Uint32(piece[i:])); nonFinite(v) {
				return fmt.Errorf("element %d: %w %v", at+i/4, ErrNonFinite, v)
			}
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		left, at = left-int64(len(piece)), at+len(piece)/4
	}
	return nil
}
