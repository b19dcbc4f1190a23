package corpus

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
)

// Tokens is an open token file. Its methods may be called concurrently.
type Tokens struct {
	file    io.ReaderAt
	path    string
	count   int64
	vocab   int
	width   int
	buffers sync.Pool // of *[]byte
}

// openTokens opens the token file of a part and checks its size.
func openTokens(path string, p part, vocab int) (*Tokens, *os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, missingFile(path, err)
	}
	stat, err := f.Stat()
	if err == nil && stat.Size() != p.Bytes {
		err = wrongSize(path, p.Bytes, stat.Size())
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return newTokens(f, path, p.Tokens, vocab), f, nil
}

func newTokens(r io.ReaderAt, path string, count int64, vocab int) *Tokens {
	return &Tokens{file: r, path: path, count: count, vocab: vocab, width: widthOf(vocab)}
}

// Len is the number of tokens.
func (t *Tokens) Len() int64 { return t.count }

// Windows is how many windows of seq+1 tokens there are at stride seq: a window's
// last token is the first of the next, so each token but the first is a target once.
func (t *Tokens) Windows(seq int) int64 {
	return max(0, (t.count-1)/int64(seq))
}

// Window reads window i of len(dst) = seq+1 tokens.
func (t *Tokens) Window(i int64, dst []int32) error {
	seq := len(dst) - 1
	if seq < 1 || i < 0 || i >= t.Windows(seq) {
		return fmt.Errorf("%s: no window %d of %d tokens among %d tokens", t.path, i, len(dst), t.count)
	}
	return t.ReadAt(dst, i*int64(seq))
}

// Sample reads the window of sample n: inputs dst[:seq], targets dst[1:seq+1]. The
// order must have been made for Windows(seq) windows.
func (t *Tokens) Sample(o Order, n uint64, seq int, dst []int32) error {
	return t.Window(o.Window(n), dst[:seq+1])
}

// ReadAt reads len(dst) tokens from offset on, all of them or none.
func (t *Tokens) ReadAt(dst []int32, offset int64) error {
	if offset < 0 || offset+int64(len(dst)) > t.count {
		return fmt.Errorf("%s: tokens %d to %d wanted, the file has %d", t.path, offset, offset+int64(len(dst)), t.count)
	}
	raw := t.buffer(len(dst) * t.width)
	defer t.buffers.Put(raw)
	// A full read may come with io.EOF, which is no failure here.
	if n, err := t.file.ReadAt(*raw, offset*int64(t.width)); n < len(*raw) {
		return fmt.Errorf("%s: read tokens at %d: %w", t.path, offset, err)
	}
	decode(dst, *raw, t.width)
	if t.vocab == 1<<(8*t.width) {
		return nil
	}
	for i, token := range dst {
		if token < 0 || int(token) >= t.vocab {
			return fmt.Errorf("%s: token %d at %d is outside the vocabulary, the highest is %d",
				t.path, uint32(token), offset+int64(i), t.vocab-1)
		}
	}
	return nil
}

func (t *Tokens) buffer(n int) *[]byte {
	b, _ := t.buffers.Get().(*[]byte)
	if b == nil {
		b = new([]byte)
	}
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return b
}

// widthOf is the bytes of a stored token: the fewest of 1, 2 and 4 that hold every
// token of the vocabulary.
func widthOf(vocab int) int {
	switch {
	case vocab <= 1<<8:
		return 1
	case vocab <= 1<<16:
		return 2
	default:
		return 4
	}
}

// decode reads len(dst) little-endian tokens from raw.
func decode(dst []int32, raw []byte, width int) {
	switch width {
	case 1:
		for i, b := range raw[:len(dst)] {
			dst[i] = int32(b)
		}
	case 2:
		for i := range dst {
			dst[i] = int32(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	default:
		for i := range dst {
			dst[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	}
}

// encode appends tokens in little-endian to dst. It refuses a token outside the
// vocabulary rather than store another one in its place.
func encode(dst []byte, tokens []int32, vocab int) ([]byte, error) {
	width := widthOf(vocab)
	for i, token := range tokens {
		if token < 0 || int(token) >= vocab {
			return nil, fmt.Errorf("token %d at %d is outside the vocabulary, the highest is %d", token, i, vocab-1)
		}
		switch width {
		case 1:
			dst = append(dst, byte(token))
		case 2:
			dst = binary.LittleEndian.AppendUint16(dst, uint16(token))
		default:
			dst = binary.LittleEndian.AppendUint32(dst, uint32(token))
		}
	}
	return dst, nil
}
