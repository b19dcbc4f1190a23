package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// CheckpointFormat is the format of a checkpoint's manifest and layout
// (docs/formats/checkpoint.md). History, append only:
//
//	1  first version
//	2  samples that were withheld or left out
const CheckpointFormat = 2

const (
	checkpointsPrefix = "checkpoints/"
	manifestName      = "manifest.json"
	maxManifestBytes  = 64 << 20
)

// manifest says what belongs to a checkpoint. It is written last.
type manifest struct {
	Format int             `json:"format"`
	Number uint64          `json:"number"`
	Parts  []Object        `json:"parts"` // names within the checkpoint's folder
	Meta   json.RawMessage `json:"meta"`
}

// PartName is the name in the store of a part of a checkpoint, for those who write
// a part themselves (see [Writer.Existing]).
func PartName(number uint64, part string) string {
	return fmt.Sprintf("%s%08d/%s", checkpointsPrefix, number, part)
}

// splitPartName undoes PartName; the number may be of any width.
func splitPartName(name string) (number uint64, part string, ok bool) {
	rest, ok := strings.CutPrefix(name, checkpointsPrefix)
	if !ok {
		return 0, "", false
	}
	digits, part, ok := strings.Cut(rest, "/")
	if !ok {
		return 0, "", false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	// Another spelling of a number is no checkpoint of ours.
	return number, part, err == nil && name == PartName(number, part)
}

func encodeManifest(m manifest) ([]byte, error) {
	m.Format = CheckpointFormat
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if len(data) >= maxManifestBytes {
		return nil, fmt.Errorf("manifest of %d bytes: at most %d are allowed", len(data), maxManifestBytes)
	}
	return append(data, '\n'), nil
}

func decodeManifest(data []byte, number uint64) (manifest, error) {
	var format struct{ Format *int }
	if err := json.Unmarshal(data, &format); err != nil {
		return manifest{}, err
	}
	if err := checkFormat(format.Format, CheckpointFormat); err != nil {
		return manifest{}, err
	}
	var m manifest
	if err := strictJSON(data, &m); err != nil {
		return manifest{}, err
	}
	if m.Number != number {
		return manifest{}, fmt.Errorf("it is the manifest of checkpoint %d", m.Number)
	}
	seen := map[string]bool{}
	for _, part := range m.Parts {
		if err := checkPart(part); err != nil {
			return manifest{}, fmt.Errorf("part %q: %w", part.Name, err)
		}
		if seen[part.Name] {
			return manifest{}, fmt.Errorf("part %q stands in it twice", part.Name)
		}
		seen[part.Name] = true
	}
	return m, nil
}

func checkPart(part Object) error {
	const digestChars = 64
	if err := CheckName(PartName(math.MaxUint64, part.Name)); err != nil {
		return err
	}
	if part.Name == manifestName {
		return errors.New("a manifest cannot be a part of itself")
	}
	hexDigit := func(c rune) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }
	if len(part.SHA256) != digestChars || strings.ContainsFunc(part.SHA256, func(c rune) bool { return !hexDigit(c) }) {
		return errors.New("its digest is not a SHA-256 in hex")
	}
	if part.Size < 0 {
		return fmt.Errorf("its size is %d", part.Size)
	}
	return nil
}

func (m manifest) part(name string) (Object, bool) {
	i := slices.IndexFunc(m.Parts, func(p Object) bool { return p.Name == name })
	if i < 0 {
		return Object{}, false
	}
	return m.Parts[i], true
}
