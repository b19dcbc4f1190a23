package huggingface

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/mistura-project/mistura/internal/store"
)

// Types of elements that can be read, as safetensors names them.
const (
	typeF32  = "F32"
	typeBF16 = "BF16"
	typeF16  = "F16"
)

func fromBrain(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// toBrain rounds a finite number to bfloat16, to the nearest and to even between two.
func toBrain(v float32) uint16 {
	bits := math.Float32bits(v)
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// pieceElements are converted at a time.
const pieceElements = 64 << 10

// widen copies count elements of a type from r to w as float32. A number that is
// not finite is refused: no checkpoint may hold one.
func widen(w io.Writer, r io.Reader, dtype string, count int) error {
	size := store.WideBytes(dtype)
	in, out := make([]byte, size*min(count, pieceElements)), make([]byte, 4*min(count, pieceElements))
	for done := 0; done < count; {
		n := min(count-done, pieceElements)
		if _, err := io.ReadFull(r, in[:n*size]); err != nil {
			return err
		}
		for i := range n {
			v := store.Widen(in, i, dtype)
			if err := finite(v, done+i); err != nil {
				return err
			}
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
		}
		if _, err := w.Write(out[:4*n]); err != nil {
			return err
		}
		done += n
	}
	return nil
}

func finite(v float32, i int) error {
	if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("element %d is %v", i, v)
	}
	return nil
}

// narrow copies count float32 numbers from r to w as a type, F32 or BF16.
func narrow(w io.Writer, r io.Reader, dtype string, count int) error {
	in := make([]byte, 4*min(count, pieceElements))
	for done := 0; done < count; {
		n := min(count-done, pieceElements)
		piece := in[:4*n]
		if _, err := io.ReadFull(r, piece); err != nil {
			return err
		}
		if dtype == typeBF16 {
			for i := range n {
				v := math.Float32frombits(binary.LittleEndian.Uint32(in[4*i:]))
				b := toBrain(v)
				if err := finite(fromBrain(b), done+i); err != nil {
					return fmt.Errorf("%w in bfloat16", err)
				}
				binary.LittleEndian.PutUint16(in[2*i:], b) // never ahead of what is read
			}
			piece = in[:2*n]
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		done += n
	}
	return nil
}
