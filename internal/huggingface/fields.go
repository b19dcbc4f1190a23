package huggingface

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/store"
)

// maxConfigBytes bounds a config.json; the largest that are published have some
// tens of kilobytes.
const maxConfigBytes = 4 << 20

// fields is a config.json that is being read. Every field is asked for once; what
// nobody asked for is refused at the end. The first fault is kept.
type fields struct {
	where string // the file
	at    map[string]json.RawMessage
	asked map[string]bool
	err   error
}

// parseFields reads a JSON object. A key that stands in it twice is refused, for
// readers differ in which they take.
func parseFields(where string, data []byte) (*fields, error) {
	f := &fields{where: where, at: map[string]json.RawMessage{}, asked: map[string]bool{}}
	if len(data) > maxConfigBytes {
		return nil, f.bad("", fmt.Sprintf("has %d bytes, at most %d are expected", len(data), maxConfigBytes), "give a model's config.json")
	}
	if err := eachMember(data, func(key string, value json.RawMessage) error {
		f.at[key] = value
		return nil
	}); err != nil {
		return nil, &fault.Input{Where: where, Problem: "cannot be read as JSON", Next: "give a model's config.json", Err: err}
	}
	return f, nil
}

// eachMember walks the members of the one JSON object in data.
func eachMember(data []byte, member func(key string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := store.EachMember(d, func(key string) error {
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		return member(key, value)
	}); err != nil {
		return err
	}
	if rest := bytes.TrimSpace(data[d.InputOffset():]); len(rest) > 0 {
		return errors.New("something follows the object")
	}
	return nil
}

// bad is bad input in a field.
func (f *fields) bad(field, problem, next string) error {
	where, value := f.where, ""
	if field != "" {
		where += ": " + field
		value = shorten(string(f.at[field]))
		var text string
		if json.Unmarshal(f.at[field], &text) == nil && text != "" {
			value = shorten(text) // quoted once, by the message
		}
	}
	return &fault.Input{Where: where, Value: value, Problem: problem, Next: next}
}

// shorten keeps a message on one line that can be read.
func shorten(s string) string { return fault.Clip(strings.Join(strings.Fields(s), " ")) }

func (f *fields) refuse(field, problem, next string) {
	if f.err == nil {
		f.err = f.bad(field, problem, next)
	}
}

// get decodes a field and reports whether it is there; null is not there.
func (f *fields) get(field string, into any, kind string) bool {
	f.asked[field] = true
	raw, ok := f.at[field]
	if !ok || string(raw) == "null" {
		return false
	}
	if err := json.Unmarshal(raw, into); err != nil {
		f.refuse(field, "is not "+kind, "see docs/formats/huggingface.md")
	}
	return true
}

const mustBeThere = "is missing, and what the model computes depends on it"

// int is a whole number that must be there.
func (f *fields) int(field string) int {
	var v int
	if !f.get(field, &v, "a whole number") {
		f.refuse(field, mustBeThere, "add it to the file")
	}
	return v
}

// intOr is a whole number, or what the family's code takes when it is not there.
func (f *fields) intOr(field string, otherwise int) int {
	v := otherwise
	f.get(field, &v, "a whole number")
	return v
}

func (f *fields) real(field string) float64 {
	var v float64
	if !f.get(field, &v, "a number") {
		f.refuse(field, mustBeThere, "add it to the file")
	}
	return v
}

func (f *fields) realOr(field string, otherwise float64) float64 {
	v := otherwise
	f.get(field, &v, "a number")
	return v
}

func (f *fields) bool(field string) bool {
	var v bool
	if !f.get(field, &v, "true or false") {
		f.refuse(field, mustBeThere, "add it to the file")
	}
	return v
}

func (f *fields) boolOr(field string, otherwise bool) bool {
	v := otherwise
	f.get(field, &v, "true or false")
	return v
}

func (f *fields) textOr(field, otherwise string) string {
	v := otherwise
	f.get(field, &v, "text")
	return v
}

// off demands that something which the engine does not compute is off. Otherwise is
// what the family's code takes when the field is not there.
func (f *fields) off(field string, otherwise bool) {
	if f.boolOr(field, otherwise) {
		f.unsupported(field)
	}
}

// zero demands the number 0, or that the field is not there.
func (f *fields) zero(field string) {
	if f.realOr(field, 0) != 0 {
		f.unsupported(field)
	}
}

// absent demands that a field is null or not there.
func (f *fields) absent(field string) {
	f.asked[field] = true
	if raw, ok := f.at[field]; ok && string(raw) != "null" {
		f.unsupported(field)
	}
}

// oneOf demands one of some texts, the first of which is also the default.
func (f *fields) oneOf(field string, texts ...string) {
	if !slices.Contains(texts, f.textOr(field, texts[0])) {
		f.unsupported(field)
	}
}

func (f *fields) unsupported(field string) {
	if _, there := f.at[field]; !there {
		f.refuse(field, "is missing, and then the family's code turns on what the engine does not compute", "add it to the file as it was trained")
		return
	}
	f.refuse(field, "is not what the engine computes", "docs/formats/huggingface.md lists what can be read")
}

// carry accepts fields that do not change what the model computes and gives those
// that are there.
func (f *fields) carry(names []string) map[string]json.RawMessage {
	carried := map[string]json.RawMessage{}
	for _, name := range names {
		f.asked[name] = true
		if raw, ok := f.at[name]; ok && string(raw) != "null" {
			carried[name] = raw
		}
	}
	return carried
}

// finish refuses fields that nobody asked for. One that is null says nothing.
func (f *fields) finish() error {
	var unknown []string
	for field, raw := range f.at {
		if !f.asked[field] && string(raw) != "null" {
			unknown = append(unknown, field)
		}
	}
	slices.Sort(unknown)
	if len(unknown) > 0 {
		f.refuse(unknown[0], "is not known, and may change what the model computes", "take it out of the file if it does not"+others(unknown[1:]))
	}
	return f.err
}

func others(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; the same holds for " + shorten(strings.Join(names, ", "))
}

// fraction gives n with n = int(whole·part), as Python computes it.
func fraction(whole int, part float64) (int, bool) {
	n := float64(whole) * part
	if !(n >= 0) || n > math.MaxInt32 {
		return 0, false
	}
	return int(n), true
}
