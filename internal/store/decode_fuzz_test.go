package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"
)

// FuzzSafetensors: no file makes the reader panic, ask for more memory than the
// file has bytes, or accept what it cannot read.
func FuzzSafetensors(f *testing.F) {
	var whole bytes.Buffer
	tensors := []Tensor{{Name: "w", Shape: []int{2, 2}, F32: make([]float32, 4)}, {Name: "s", F32: make([]float32, 1)}}
	if err := WriteSafetensors(&whole, tensors, map[string]string{"k": "v"}); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	for _, header := range []string{
		``, `{}`, `{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} `, `{"__metadata__":{}}`, `{"x":{"shape":[9,9,9]}}`,
	} {
		f.Add(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header+"1234"...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := OpenSafetensors(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		total := int64(0)
		for _, info := range r.Tensors() {
			total += info.end - info.begin
			n, err := elements(info.Shape)
			if err != nil || n*dtypeBytes(info.Dtype) != info.end-info.begin {
				t.Fatalf("accepted %+v", info)
			}
			if info.Dtype != "F32" {
				continue
			}
			if err := r.ReadF32(info.Name, make([]float32, n)); err != nil {
				t.Fatal(err)
			}
		}
		if r.data+total != int64(len(data)) {
			t.Fatalf("the tensors take %d bytes from %d on, the file has %d", total, r.data, len(data))
		}
	})
}

// FuzzSegment: what is accepted has whole records and comes out the same when it is
// written again.
func FuzzSegment(f *testing.F) {
	const sequence, number, previous = "tape/era-0001/coord", 7, "00ff"
	records, err := encodeRecords([]any{closedRecord{Kind: closedKind, ByEra: 2}, map[string]int{"a": 1}})
	if err != nil {
		f.Fatal(err)
	}
	whole, err := encodeSegment(segmentHeader{Sequence: sequence, Number: number, Nonce: "n", Previous: previous}, records)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(bytes.Replace(whole, []byte(`"records":2`), []byte(`"records":-1`), 1))
	f.Add([]byte("{}\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		segment, err := decodeSegment(data, sequence, number, previous)
		if err != nil {
			return
		}
		again, err := encodeRecords(anys(segment.Records))
		if err != nil {
			t.Fatalf("a record that was accepted cannot be written: %v", err)
		}
		written, err := encodeSegment(segmentHeader{Sequence: sequence, Number: number, Nonce: segment.Nonce, Previous: previous}, again)
		if err != nil {
			t.Fatal(err)
		}
		second, err := decodeSegment(written, sequence, number, previous)
		if err != nil || len(second.Records) != len(segment.Records) {
			t.Fatalf("%d records became %d, %v", len(segment.Records), len(second.Records), err)
		}
		segment.ClosedBy()
	})
}

func anys(records []json.RawMessage) []any {
	var out []any
	for _, record := range records {
		out = append(out, record)
	}
	return out
}

// FuzzManifest: an accepted manifest names parts that a store can hold, each once,
// and comes out the same when it is written again.
func FuzzManifest(f *testing.F) {
	part := Object{Name: "islands/fast.safetensors", Size: 3, SHA256: digestBytes([]byte("abc"))}
	whole, err := encodeManifest(manifest{Number: 12, Parts: []Object{part}, Meta: json.RawMessage(`{"tokens":1}`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"format":1,"number":12,"parts":null,"meta":null}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(data, 12)
		if err != nil {
			return
		}
		for _, part := range m.Parts {
			if err := CheckName(PartName(12, part.Name)); err != nil {
				t.Fatal(err)
			}
		}
		again, err := encodeManifest(m)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := decodeManifest(again, 12); err != nil || len(second.Parts) != len(m.Parts) {
			t.Fatalf("%+v became %+v, %v", m, second, err)
		}
	})
}
