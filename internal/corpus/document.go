package corpus

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// EndOfDocument is the token behind each document; no UTF-8 text contains it.
const EndOfDocument = 0xFF

// Vocab is the number of tokens of the byte tokenizer.
const Vocab = 256

const byteOrderMark = "\uFEFF"

// document is the clean text of one document.
type document struct {
	text []byte // UTF-8, not empty
	hash uint64 // first eight bytes of the text's SHA-256
}

// reading is what one piece of input gave.
type reading struct {
	documents []document
	tally     Tally
}

// keep cleans a text and keeps it, unless there is none.
func (r *reading) keep(text []byte) {
	if n := invalidBytes(text); n > 0 {
		r.tally.InvalidBytes += n
		text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
	}
	if len(text) == 0 {
		r.tally.Empty++
		return
	}
	sum := sha256.Sum256(text)
	r.documents = append(r.documents, document{text: text, hash: binary.BigEndian.Uint64(sum[:])})
	r.tally.Documents++
}

// heldOut chooses documents for validation by their content, so that the choice does
// not depend on their order or on what else is there, and a copy of a document is
// never on the other side.
func (d document) heldOut(share float64) bool {
	return d.hash < uint64(share*0x1p64)
}

// invalidBytes counts the bytes that are no part of a character.
func invalidBytes(text []byte) int64 {
	if utf8.Valid(text) {
		return 0
	}
	var n int64
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			n++
		}
		text = text[size:]
	}
	return n
}

// withoutMark drops the byte order mark that some editors put at the start of a file.
func withoutMark(start []byte) []byte {
	return bytes.TrimPrefix(start, []byte(byteOrderMark))
}

// Encode gives the tokens of a text that goes into a model, such as a prompt. Bytes
// that are no UTF-8 are replaced, so the end of a document cannot be forged.
func Encode(text string) []int32 {
	text = strings.ToValidUTF8(text, "\uFFFD")
	tokens := make([]int32, len(text))
	for i := range tokens {
		tokens[i] = int32(text[i])
	}
	return tokens
}

// cut is where to divide text that goes on behind its end: after the last line end,
// else before a character that may not be whole.
func cut(text []byte) int {
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		return i + 1
	}
	for i := len(text) - 1; i > 0 && i >= len(text)-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			return i
		}
	}
	return len(text)
}
