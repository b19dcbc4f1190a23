package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// TensorInfo describes a tensor in a file.
type TensorInfo struct {
	Name  string
	Dtype string // "F32", "BF16", "I64" …
	Shape []int  // row-major

	begin, end int64 // bytes, from the first byte behind the header
}

// StateKey is the entry of a file's metadata that lists, as JSON, the tensors of a model
// that no gradient reaches.
const StateKey = "state"

// dtypeBytes is the size of one element; 0 for a type that this reader cannot
// check.
func dtypeBytes(dtype string) int64 {
	switch dtype {
	case "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0":
		return 1
	case "U16", "I16", "F16", "BF16":
		return 2
	case "U32", "I32", "F32":
		return 4
	case "U64", "I64", "F64", "C64":
		return 8
	}
	return 0
}

// decodeTensorHeader reads a safetensors header for dataBytes bytes of tensors and gives
// the tensors in the order in which they lie. Where the bytes are still to come, and
// dataBytes is negative, they are as many as the tensors take.
func decodeTensorHeader(header []byte, dataBytes int64) ([]TensorInfo, map[string]string, error) {
	if !utf8.Valid(header) {
		return nil, nil, errors.New("the header is not UTF-8")
	}
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("the header does not begin with {")
	}
	var tensors []TensorInfo
	var meta map[string]string
	decoder := json.NewDecoder(bytes.NewReader(header))
	err := EachMember(decoder, func(key string) error {
		if key == metadataKey {
			var err error
			meta, err = decodeMeta(decoder)
			return err
		}
		info, err := decodeEntry(decoder, key)
		tensors = append(tensors, info)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("the header: %w", err)
	}
	if padding := header[decoder.InputOffset():]; len(bytes.Trim(padding, " ")) != 0 {
		return nil, nil, errors.New("something other than spaces follows the header")
	}
	if err := checkLayout(tensors, dataBytes); err != nil {
		return nil, nil, err
	}
	return tensors, meta, nil
}

// EachMember walks one JSON object and refuses a key that stands in it twice, which
// encoding/json would let pass. member reads the value.
func EachMember(decoder *json.Decoder, member func(key string) error) error {
	if open, err := decoder.Token(); err != nil {
		return err
	} else if open != json.Delim('{') {
		return fmt.Errorf("%v stands where an object should", open)
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		key := token.(string) // the decoder accepts no other key
		if seen[key] {
			return fmt.Errorf("%q stands in it twice", key)
		}
		seen[key] = true
		if err := member(key); err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
	}
	_, err := decoder.Token()
	return err
}

func decodeMeta(decoder *json.Decoder) (map[string]string, error) {
	meta := map[string]string{}
	err := EachMember(decoder, func(key string) error {
		var value *string
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		if value == nil {
			return errors.New("is null")
		}
		meta[key] = *value
		return nil
	})
	return meta, err
}

// maxDims is far above what a tensor of any model has.
const maxDims = 64

func decodeEntry(decoder *json.Decoder, name string) (TensorInfo, error) {
	info := TensorInfo{Name: name}
	var offsets []*int64 // nil: null, which would be 0 otherwise
	var shape []*int
	err := EachMember(decoder, func(key string) error {
		switch key {
		case "dtype":
			return decoder.Decode(&info.Dtype)
		case "shape":
			return decoder.Decode(&shape)
		case "data_offsets":
			return decoder.Decode(&offsets)
		}
		return errors.New("is not known")
	})
	switch {
	case err != nil:
		return info, err
	case shape == nil || slices.Contains(shape, nil):
		return info, errors.New("has no shape")
	case len(shape) > maxDims:
		return info, fmt.Errorf("has a shape of %d numbers, at most %d are expected", len(shape), maxDims)
	case len(offsets) != 2 || slices.Contains(offsets, nil):
		return info, errors.New("has no two data_offsets")
	}
	info.Shape = make([]int, len(shape))
	for i, extent := range shape {
		info.Shape[i] = *extent
	}
	info.begin, info.end = *offsets[0], *offsets[1]
	return info, checkExtent(info)
}

// checkExtent compares shape and type with the bytes that the tensor takes.
func checkExtent(info TensorInfo) error {
	size := dtypeBytes(info.Dtype)
	if size == 0 {
		return fmt.Errorf("type %q is not known", info.Dtype)
	}
	n, err := elements(info.Shape)
	if err != nil {
		return err
	}
	have := info.end - info.begin
	if info.begin < 0 || info.end < info.begin || have%size != 0 || have/size != n {
		return fmt.Errorf("bytes %d to %d do not hold shape %v of %s", info.begin, info.end, info.Shape, info.Dtype)
	}
	return nil
}

// checkLayout sorts tensors by place; they must cover the data without holes and
// overlaps.
func checkLayout(tensors []TensorInfo, dataBytes int64) error {
	slices.SortStableFunc(tensors, func(a, b TensorInfo) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	at := int64(0)
	for _, t := range tensors {
		if t.begin != at {
			return fmt.Errorf("tensor %q begins at byte %d, the one before it ends at %d", t.Name, t.begin, at)
		}
		at = t.end
	}
	if dataBytes >= 0 && at != dataBytes {
		return fmt.Errorf("the tensors take %d bytes, the file holds %d", at, dataBytes)
	}
	return nil
}
