package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// TapeFormat is the format of tape segments (docs/formats/tape.md). History, append
// only:
//
//	1  first version
//	2  spike and rollback records: samples behind a position need not be in the model
const TapeFormat = 2

// maxSegmentBytes bounds what is read into memory for one segment.
const maxSegmentBytes = 64 << 20

// Segment is one object of a tape: the records that were committed together.
type Segment struct {
	Sequence string            // path of the sequence
	Number   uint64            // 1, 2, 3 …
	Nonce    string            // of the attempt that made it
	Records  []json.RawMessage // JSON objects, at least one

	digest string // SHA-256 of the object, which the next segment repeats
}

// segmentHeader is the first line of a segment.
type segmentHeader struct {
	Format   int    `json:"format"`
	Sequence string `json:"sequence"`
	Number   uint64 `json:"number"`
	Nonce    string `json:"nonce"`
	Records  int    `json:"records"`
	Previous string `json:"previous"` // SHA-256 of the segment before, empty for the first
}

// closedRecord is the last record of a sequence that nobody may continue.
type closedRecord struct {
	Kind  string `json:"kind"`
	ByEra uint32 `json:"by_era"`
}

const closedKind = "closed"

// ClosedBy reports whether this segment ends its sequence, and the era that closed
// it.
func (s Segment) ClosedBy() (era uint32, closed bool) {
	var record closedRecord
	if len(s.Records) != 1 || json.Unmarshal(s.Records[0], &record) != nil || record.Kind != closedKind {
		return 0, false
	}
	return record.ByEra, true
}

// segmentName pads the number so that names sort like numbers up to 10 digits; code
// that reads them compares numbers.
func segmentName(sequence string, number uint64) string {
	return fmt.Sprintf("%s/%010d.jsonl", sequence, number)
}

// encodeRecords gives each record as one line of JSON.
func encodeRecords(records []any) ([]byte, error) {
	if len(records) == 0 {
		return nil, errors.New("a segment needs at least one record")
	}
	var out bytes.Buffer
	for i, record := range records {
		line, err := json.Marshal(record)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		if line[0] != '{' {
			return nil, fmt.Errorf("record %d is not a JSON object", i)
		}
		out.Write(line)
		out.WriteByte('\n')
	}
	return out.Bytes(), nil
}

// encodeSegment puts the header before the encoded records.
func encodeSegment(header segmentHeader, records []byte) ([]byte, error) {
	header.Format = TapeFormat
	header.Records = bytes.Count(records, []byte{'\n'})
	line, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	data := append(append(line, '\n'), records...)
	if len(data) > maxSegmentBytes {
		return nil, fmt.Errorf("segment of %d bytes: at most %d are allowed", len(data), maxSegmentBytes)
	}
	return data, nil
}

// decodeSegment reads the segment that should stand at a place of a sequence, after
// the segment whose digest is previous.
func decodeSegment(data []byte, sequence string, number uint64, previous string) (Segment, error) {
	first, body, ok := bytes.Cut(data, []byte{'\n'})
	if !ok {
		return Segment{}, errors.New("it has no complete first line")
	}
	header, err := decodeHeader(first)
	if err != nil {
		return Segment{}, err
	}
	switch {
	case header.Sequence != sequence:
		return Segment{}, fmt.Errorf("it belongs to sequence %q", header.Sequence)
	case header.Number != number:
		return Segment{}, fmt.Errorf("it is number %d", header.Number)
	case header.Previous != previous:
		return Segment{}, errors.New("it does not continue the segment before it")
	}
	records, err := decodeRecords(body, header.Records)
	if err != nil {
		return Segment{}, err
	}
	return Segment{Sequence: sequence, Number: number, Nonce: header.Nonce, Records: records, digest: digestBytes(data)}, nil
}

func decodeHeader(line []byte) (segmentHeader, error) {
	var format struct{ Format *int }
	if err := json.Unmarshal(line, &format); err != nil {
		return segmentHeader{}, fmt.Errorf("its first line: %w", err)
	}
	if err := checkFormat(format.Format, TapeFormat); err != nil {
		return segmentHeader{}, err
	}
	var header segmentHeader
	if err := strictJSON(line, &header); err != nil {
		return segmentHeader{}, fmt.Errorf("its first line: %w", err)
	}
	return header, nil
}

// checkFormat refuses data of a later format than this program knows.
func checkFormat(got *int, known int) error {
	switch {
	case got == nil:
		return errors.New("it names no format")
	case *got > known:
		return &newerFormatError{got: *got, known: known}
	case *got < 1:
		return fmt.Errorf("there is no format %d", *got)
	}
	return nil
}

type newerFormatError struct{ got, known int }

func (e *newerFormatError) Error() string {
	return "its format is " + strconv.Itoa(e.got) + ", this program knows formats up to " + strconv.Itoa(e.known)
}

// strictJSON decodes exactly one value and accepts no unknown field.
func strictJSON(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if len(bytes.TrimSpace(data[decoder.InputOffset():])) != 0 {
		return errors.New("more follows after the value")
	}
	return nil
}

func decodeRecords(body []byte, want int) ([]json.RawMessage, error) {
	var records []json.RawMessage
	for len(body) > 0 {
		line, rest, ok := bytes.Cut(body, []byte{'\n'})
		if !ok {
			return nil, fmt.Errorf("line %d is cut off", len(records)+2)
		}
		if !json.Valid(line) || line[0] != '{' {
			return nil, fmt.Errorf("line %d is not a JSON object", len(records)+2)
		}
		records = append(records, json.RawMessage(line))
		body = rest
	}
	if len(records) != want || want < 1 {
		return nil, fmt.Errorf("it holds %d records, its first line says %d", len(records), want)
	}
	return records, nil
}
