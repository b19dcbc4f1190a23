package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mistura-project/mistura/internal/fault"
)

// ErrTaken: another writer holds the number that this one wanted, or has closed the
// sequence. The writer must step down; every later Append fails the same way.
var ErrTaken = errors.New("another writer has this sequence")

// Sequence is the writing end of a tape: objects 1, 2, 3 … below one path, each
// created if absent and never altered. Creating the next number is the commit.
//
// A Sequence proposes one content for each number. If it cannot learn whether a
// creation took effect, that content stays pending and must be proposed again
// before anything else.
type Sequence struct {
	st   Store
	path string

	mu       sync.Mutex
	next     uint64   // number to create
	previous string   // digest of segment next-1
	pending  *pending // outcome unknown
	taken    error    // set when this writer must step down
}

type pending struct {
	records []byte // encoded
	segment []byte // whole object
}

// OpenSequence reads a sequence to its end and gives the writer for what follows. A
// sequence of which nothing is stored is empty. A hole or a damaged segment is a
// *fault.Input.
func OpenSequence(ctx context.Context, st Store, path string) (*Sequence, []Segment, error) {
	segments, err := ReadSequence(ctx, st, path)
	if err != nil {
		return nil, nil, err
	}
	s := &Sequence{st: st, path: path, next: 1}
	for _, segment := range segments {
		s.read(segment)
	}
	return s, segments, nil
}

// read takes note of a segment that others committed.
func (s *Sequence) read(segment Segment) {
	s.advance(segment.digest)
	if era, closed := segment.ClosedBy(); closed {
		s.taken = fmt.Errorf("append to %s: %w: closed by era %d", s.path, ErrTaken, era)
	}
}

func (s *Sequence) advance(digest string) {
	s.next++
	s.previous = digest
	s.pending = nil
}

// Append commits records as the next segment and gives its number. Each record is
// encoded as a JSON object on a line of its own.
//
// After ErrTaken nothing was committed and the writer must step down. After any
// other error the records may or may not be committed: call Append again with the
// same records until it succeeds or reports ErrTaken. It does not commit them
// twice. Other records are refused until then.
func (s *Sequence) Append(ctx context.Context, records ...any) (uint64, error) {
	encoded, err := encodeRecords(records)
	if err != nil {
		return 0, fmt.Errorf("append to %s: %w", s.path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken != nil {
		return 0, s.taken
	}
	if err := s.propose(encoded); err != nil {
		return 0, fmt.Errorf("append to %s: %w", s.path, err)
	}
	return s.commit(ctx)
}

// propose fixes the content of the next number; mu is held.
func (s *Sequence) propose(records []byte) error {
	if s.pending != nil {
		if !bytes.Equal(s.pending.records, records) {
			return fmt.Errorf("segment %d is pending with other records", s.next)
		}
		return nil
	}
	header := segmentHeader{Sequence: s.path, Number: s.next, Nonce: newNonce(), Previous: s.previous}
	segment, err := encodeSegment(header, records)
	if err != nil {
		return err
	}
	s.pending = &pending{records: records, segment: segment}
	return nil
}

// commit creates the pending segment; mu is held. A creation that fails is tried
// once more: then either it succeeds, or the number is in use and reading it back
// tells by whom.
func (s *Sequence) commit(ctx context.Context) (uint64, error) {
	name := segmentName(s.path, s.next)
	err := s.st.Create(ctx, name, s.pending.segment)
	if err != nil && !errors.Is(err, ErrExists) {
		err = s.st.Create(ctx, name, s.pending.segment)
	}
	if errors.Is(err, ErrExists) {
		err = s.readBack(ctx, name)
	}
	if errors.Is(err, ErrTaken) {
		s.pending, s.taken = nil, err
		return 0, err
	}
	if err != nil {
		return 0, fmt.Errorf("append segment %d to %s, outcome unknown: %w", s.next, s.path, err)
	}
	number := s.next
	s.advance(digestBytes(s.pending.segment))
	return number, nil
}

// readBack finds out whose segment has the wanted number. The nonce tells apart two
// writers with equal records.
func (s *Sequence) readBack(ctx context.Context, name string) error {
	found, err := Get(ctx, s.st, name, maxSegmentBytes)
	if err != nil {
		return err
	}
	if bytes.Equal(found, s.pending.segment) {
		return nil
	}
	return fmt.Errorf("append to %s: %w: segment %d is not this writer's", s.path, ErrTaken, s.next)
}

// CloseSequence ends a sequence for every writer: it appends a last record
// {"kind":"closed","by_era":era}, at the next number as long as others are faster,
// and gives each the whole sequence, segment by segment. A sequence that is closed
// already stays as it is. Safe to repeat after an error, which gives all of it anew.
func CloseSequence(ctx context.Context, st Store, path string, era uint32, each func(Segment)) error {
	for next, previous := uint64(1), ""; ; {
		s := &Sequence{st: st, path: path, next: next, previous: previous}
		for segment, err := range scan(ctx, st, path, next, previous) {
			if err != nil {
				return fmt.Errorf("close sequence: %w", err)
			}
			s.read(segment)
			each(segment)
		}
		if s.taken != nil {
			return nil
		}
		next, previous = s.next, s.previous
		// Whether this succeeds or another writer was faster: read what is there.
		if _, err := s.Append(ctx, closedRecord{Kind: closedKind, ByEra: era}); err != nil && !errors.Is(err, ErrTaken) {
			return fmt.Errorf("close sequence: %w", err)
		}
	}
}

// ReadSequence reads a sequence to its end.
func ReadSequence(ctx context.Context, st Store, path string) ([]Segment, error) {
	var segments []Segment
	for segment, err := range Scan(ctx, st, path) {
		if err != nil {
			return nil, err
		}
		segments = append(segments, segment)
	}
	return segments, nil
}

// Scan reads a sequence segment by segment, for tapes that need not fit in memory.
// It ends at the first number that is not there; if a later one is, that is a hole
// and an error. An error is the last thing it yields.
func Scan(ctx context.Context, st Store, path string) iter.Seq2[Segment, error] {
	return scan(ctx, st, path, 1, "")
}

// scan begins at a number; previous is the digest of the segment before it.
func scan(ctx context.Context, st Store, path string, number uint64, previous string) iter.Seq2[Segment, error] {
	return func(yield func(Segment, error) bool) {
		last, err := lastNumber(ctx, st, path)
		if err != nil {
			yield(Segment{}, fmt.Errorf("read sequence %s: %w", path, err))
			return
		}
		previous := previous
		for number := number; ; number++ {
			segment, err := readSegment(ctx, st, path, number, previous)
			if errors.Is(err, ErrNotFound) && number > last {
				return // what was created since the listing has been read too
			}
			if err != nil {
				yield(Segment{}, damagedTape(st, path, number, err))
				return
			}
			if !yield(segment, nil) {
				return
			}
			previous = segment.digest
		}
	}
}

// errMalformed marks content that was read and is wrong, as against a store that
// could not be read.
var errMalformed = errors.New("malformed")

func readSegment(ctx context.Context, st Store, path string, number uint64, previous string) (Segment, error) {
	data, err := Get(ctx, st, segmentName(path, number), maxSegmentBytes)
	if err != nil {
		return Segment{}, err
	}
	segment, err := decodeSegment(data, path, number, previous)
	if err != nil {
		return Segment{}, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return segment, nil
}

func damagedTape(st Store, path string, number uint64, err error) error {
	problem := ""
	switch {
	case errors.Is(err, ErrNotFound):
		problem = "this segment of the tape is missing, later ones are there"
	case errors.Is(err, errMalformed):
		problem = "this segment of the tape cannot be used"
	default:
		return fmt.Errorf("read sequence %s: %w", path, err)
	}
	return &fault.Input{
		Where: place(st, segmentName(path, number)), Problem: problem, Next: "put the file back from a copy", Err: err,
	}
}

// place names an object to a user.
func place(st Store, name string) string { return strings.TrimSuffix(st.Location(), "/") + "/" + name }

// lastNumber is the highest number stored below a path, 0 if there is none.
func lastNumber(ctx context.Context, st Store, path string) (uint64, error) {
	objects, err := st.List(ctx, path+"/")
	if err != nil {
		return 0, err
	}
	numbers := []uint64{0}
	for _, object := range objects {
		digits, isSegment := strings.CutSuffix(strings.TrimPrefix(object.Name, path+"/"), ".jsonl")
		if number, err := strconv.ParseUint(digits, 10, 64); isSegment && err == nil {
			numbers = append(numbers, number)
		}
	}
	return slices.Max(numbers), nil
}
