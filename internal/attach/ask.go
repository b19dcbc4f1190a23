package attach

import (
	"encoding/binary"
	"fmt"
)

// Describe asks, before hello, which run this is: for a trainer that makes the run's own
// model. The answer is Run.
type Describe struct{}

// Run answers Describe.
type Run struct {
	Run    Document `json:"run"`    // the resolved run file
	Island string   `json:"island"` // name; empty: not given yet
}

// Rows asks for the tokens of samples, of any rank at any time after its welcome. The
// answer is Tokens.
type Rows struct {
	Samples []uint64 `json:"samples"`
}

// Tokens answers Rows.
type Tokens struct {
	Count    int    `json:"count"`     // of samples
	Width    int    `json:"width"`     // tokens of each: one more than a sequence has inputs
	Tokens   []byte `json:"tokens"`    // base64 of int32, little-endian, row by row
	EndToken *int32 `json:"end_token"` // of a document; nil: samples are not cut there
}

// TokensOf makes the answer of rows that lie one behind the other.
func TokensOf(rows []int32, width int, end *int32) *Tokens {
	t := &Tokens{Count: len(rows) / width, Width: width, EndToken: end, Tokens: make([]byte, 0, 4*len(rows))}
	for _, x := range rows {
		t.Tokens = binary.LittleEndian.AppendUint32(t.Tokens, uint32(x))
	}
	return t
}

// maxRowsBytes of tokens fit on a line as base64, with room for the rest of the message.
const maxRowsBytes = MaxLineBytes/4*3 - 1024

func (r *Rows) problem() string {
	if len(r.Samples) == 0 {
		return "samples is empty"
	}
	return ""
}

// FitsRows says whether so many rows can be answered at once, and if not why.
func FitsRows(count, width int) error {
	if most := maxRowsBytes / 4 / width; count > most {
		return fmt.Errorf("%d rows of %d tokens do not fit in a message, at most %d do", count, width, most)
	}
	return nil
}
