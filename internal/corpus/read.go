package corpus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/mistura-project/mistura/internal/fault"
)

// pieceBytes is the size up to which a text file is one document. Longer ones are cut
// at line ends into documents of about this size, so that memory stays bounded and
// one long file can be divided into training and held-out text.
const pieceBytes = 1 << 20

// readAll reads all files, several at once, and hands what they give to consume in
// the order of the files.
func readAll(ctx context.Context, files []file, strict bool, consume func(reading) error) error {
	produce := func(emit func(job[reading]) error) error {
		for _, f := range files {
			if err := f.produce(strict, emit); err != nil {
				return err
			}
		}
		return nil
	}
	return inOrder(ctx, runtime.GOMAXPROCS(0), produce, consume)
}

// produce divides a file into pieces of work.
func (f file) produce(strict bool, emit func(job[reading]) error) error {
	switch {
	case f.kind == jsonLines:
		return f.produceLines(strict, emit)
	case f.size > pieceBytes:
		return f.producePieces(emit)
	}
	return emit(func() (reading, error) {
		text, err := os.ReadFile(f.path)
		if err != nil {
			return reading{}, unreadable(f.path, err)
		}
		r := reading{tally: Tally{Files: 1}}
		f.take(&r, text)
		return r, nil
	})
}

// take keeps the text of a whole file, unless it is of a sort that is left out.
func (f file) take(r *reading, text []byte) {
	r.tally.Bytes += int64(len(text))
	switch {
	case isBinary(text):
		r.tally.Binary++
	case f.kind == goSource && isGenerated(text):
		r.tally.Generated++
	default:
		r.keep(withoutMark(text))
	}
}

// producePieces cuts a long text file.
func (f file) producePieces(emit func(job[reading]) error) error {
	in, err := os.Open(f.path)
	if err != nil {
		return unreadable(f.path, err)
	}
	defer in.Close()
	var rest []byte
	for first := true; ; first = false {
		piece := make([]byte, pieceBytes)
		n := copy(piece, rest)
		m, err := io.ReadFull(in, piece[n:])
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return unreadable(f.path, err)
		}
		piece = piece[:n+m]
		if first && (isBinary(piece) || f.kind == goSource && isGenerated(piece)) {
			return emit(func() (reading, error) {
				r := reading{tally: Tally{Files: 1}}
				f.take(&r, piece)
				r.tally.Bytes = f.size
				return r, nil
			})
		}
		if !last {
			at := cut(piece)
			piece, rest = piece[:at], bytes.Clone(piece[at:])
		}
		if err := emit(pieceJob(piece, first)); err != nil || last {
			return err
		}
	}
}

func pieceJob(piece []byte, first bool) job[reading] {
	return func() (reading, error) {
		r := reading{tally: Tally{Bytes: int64(len(piece))}}
		text := piece
		if first {
			r.tally.Files = 1
			text = withoutMark(text)
		}
		if len(text) > 0 {
			r.keep(text)
		}
		return r, nil
	}
}

// produceLines reads a JSON Lines file and gives out its lines in pieces.
func (f file) produceLines(strict bool, emit func(job[reading]) error) error {
	in, err := os.Open(f.path)
	if err != nil {
		return unreadable(f.path, err)
	}
	defer in.Close()
	buffered := bufio.NewReaderSize(in, 64<<10)
	if head, _ := buffered.Peek(len(byteOrderMark)); string(head) == byteOrderMark {
		buffered.Discard(len(byteOrderMark))
	}
	reader := &lineReader{r: buffered, limit: maxLineBytes}
	if err := emit(func() (reading, error) { return reading{tally: Tally{Files: 1}}, nil }); err != nil {
		return err
	}
	for {
		piece, err := f.nextLines(reader, strict)
		if err != nil && err != io.EOF {
			return err
		}
		if err := emit(piece.read); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
	}
}

// nextLines takes lines of about pieceBytes in all; with the last ones comes io.EOF.
func (f file) nextLines(reader *lineReader, strict bool) (lines, error) {
	piece := lines{path: f.path, first: reader.line + 1, strict: strict}
	before := reader.bytes
	for piece.bytes < pieceBytes {
		line, err := reader.next()
		switch {
		case errors.Is(err, errLineTooLong):
			return lines{}, &fault.Input{Where: fmt.Sprintf("%s:%d", f.path, reader.line),
				Problem: fmt.Sprintf("the line is longer than %d bytes", reader.limit), Next: "divide the document into several lines"}
		case err == io.EOF:
			return piece, io.EOF
		case err != nil:
			return lines{}, unreadable(f.path, err)
		}
		piece.lines = append(piece.lines, line)
		piece.bytes = reader.bytes - before
	}
	return piece, nil
}
