package corpus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/mistura-project/mistura/internal/fault"
)

// maxLineBytes is the longest line of JSON Lines that is read (case E4).
const maxLineBytes = 32 << 20

var errLineTooLong = errors.New("line too long")

// lineReader reads lines of any length up to a limit. Only "\n" ends a line: JSON
// strings may hold U+2028, U+2029 and U+0085 as they are (case E2). A carriage
// return before it belongs to the line end.
type lineReader struct {
	r     *bufio.Reader
	limit int
	line  int64 // number of the line read last
	bytes int64 // read so far, line ends included
}

// next gives the next line in a new slice, io.EOF behind the last one. A last line
// without a line end counts.
func (l *lineReader) next() ([]byte, error) {
	var line []byte
	for {
		chunk, err := l.r.ReadSlice('\n')
		if len(line) == 0 && len(chunk) > 0 {
			l.line++
		}
		line = append(line, chunk...)
		l.bytes += int64(len(chunk))
		ended := err == nil
		if len(trimLineEnd(line)) > l.limit {
			return nil, errLineTooLong
		}
		switch {
		case ended, err == io.EOF && len(line) > 0:
			return trimLineEnd(line), nil
		case err != bufio.ErrBufferFull:
			return nil, err
		}
	}
}

func trimLineEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// lines is a piece of a JSON Lines file.
type lines struct {
	path   string
	first  int64 // number of its first line
	lines  [][]byte
	bytes  int64
	strict bool
}

// read takes the documents out of the lines.
func (l lines) read() (reading, error) {
	r := reading{tally: Tally{Bytes: l.bytes}}
	for i, line := range l.lines {
		if err := r.keepLine(line, l.strict); err != nil {
			return reading{}, &fault.Input{Where: fmt.Sprintf("%s:%d", l.path, l.first+int64(i)), Problem: err.Error(),
				Next: `JSON Lines hold one object with the key "text" on each line; mend or remove the line`}
		}
	}
	return r, nil
}

// keepLine takes one line; in strict mode every line must hold text.
func (r *reading) keepLine(line []byte, strict bool) error {
	before := r.tally
	if err := r.keepObject(line); err != nil {
		return err
	}
	if !strict || r.tally.Documents > before.Documents {
		return nil
	}
	switch {
	case r.tally.Blank > before.Blank:
		return errors.New("is blank")
	case r.tally.Null > before.Null:
		return errors.New("has null for its text")
	case r.tally.Missing > before.Missing:
		return errors.New(`has no key "text"`)
	default:
		return errors.New("has an empty text")
	}
}

func (r *reading) keepObject(line []byte) error {
	if len(bytes.TrimSpace(line)) == 0 {
		r.tally.Blank++
		return nil
	}
	// A map, not a struct: field names of structs match without regard to case.
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		return errors.New("is not a JSON object")
	}
	raw, ok := object["text"]
	if !ok {
		r.tally.Missing++
		return nil
	}
	if string(raw) == "null" {
		r.tally.Null++
		return nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return errors.New(`has a text that is not a string`)
	}
	// The decoder has put U+FFFD in the place of invalid bytes; count them.
	// The decoder has replaced invalid bytes by U+FFFD, so they are counted in raw.
	r.tally.InvalidBytes += invalidBytes(raw)
	r.keep([]byte(text))
	return nil
}
