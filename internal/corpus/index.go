package corpus

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"

	"github.com/mistura-project/mistura/internal/fault"
)

// Format is the version of a folder of token files. History, append only:
//
//	1  first version
const Format = 1

// Names of the files in a folder. The index is written last: a folder without it is
// not whole.
const (
	indexName = "index.json"
	trainName = "train.tok"
	validName = "valid.tok"
)

// The values of tokenizer.
const (
	ByteTokenizer = "bytes" // the one built in
	givenTokens   = "given" // the tokens came from elsewhere
)

// index is the content of index.json.
type index struct {
	Format     int     `json:"format"`
	Tokenizer  string  `json:"tokenizer"`
	Vocab      int     `json:"vocab"`
	WidthBytes int     `json:"width_bytes"`
	Train      part    `json:"train"`
	Valid      part    `json:"valid"`
	Input      input   `json:"input"`
	Tally      Tally   `json:"tally"`
	NGrams     *ngrams `json:"ngrams"` // null: not counted, as for a vocabulary above 256
}

// part describes one token file.
type part struct {
	File   string `json:"file"`
	Tokens int64  `json:"tokens"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// input is what the tokens were made from. A folder is reused for the same input only.
type input struct {
	Source     string   `json:"source"` // for people
	Paths      []string `json:"paths"`  // absolute; empty for the Go source tree
	ValidShare float64  `json:"valid_share"`
	Strict     bool     `json:"strict"`
	HeldOut    string   `json:"held_out"` // byDocument, byPosition or asGiven
}

// decodeIndex reads and checks an index. path is for errors.
func decodeIndex(path string, data []byte) (index, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return index{}, badIndex(path, "", "is not an index of token files", err)
	}
	if version.Format != Format {
		return index{}, badIndex(path, fmt.Sprint(version.Format),
			fmt.Sprintf("this format is unknown here, this program reads format %d", Format), nil)
	}
	var x index
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil {
		return index{}, badIndex(path, "", "cannot be read", err)
	}
	if problem := x.problem(); problem != "" {
		return index{}, badIndex(path, "", problem, nil)
	}
	return x, nil
}

// problem tells what contradicts itself in an index, or nothing.
func (x index) problem() string {
	switch {
	case x.Tokenizer != ByteTokenizer && x.Tokenizer != givenTokens:
		return fmt.Sprintf("tokenizer is %q", x.Tokenizer)
	case x.Tokenizer == ByteTokenizer && x.Vocab != Vocab:
		return fmt.Sprintf("vocab is %d, the tokenizer %q has %d", x.Vocab, x.Tokenizer, Vocab)
	case x.Vocab < 1 || x.Vocab > math.MaxInt32:
		return fmt.Sprintf("vocab is %d", x.Vocab)
	case x.WidthBytes != widthOf(x.Vocab):
		return fmt.Sprintf("width_bytes is %d, a vocabulary of %d takes %d", x.WidthBytes, x.Vocab, widthOf(x.Vocab))
	}
	for _, p := range []part{x.Train, x.Valid} {
		digest, err := hex.DecodeString(p.SHA256)
		switch {
		case p.File == "" || p.File != filepath.Base(p.File) || !filepath.IsLocal(p.File):
			return fmt.Sprintf("%q is not the name of a file beside the index", p.File)
		case p.Tokens < 1 || p.Tokens > math.MaxInt64/8 || p.Bytes != p.Tokens*int64(x.WidthBytes):
			return fmt.Sprintf("%s has %d tokens in %d bytes", p.File, p.Tokens, p.Bytes)
		case err != nil || len(digest) != 32:
			return fmt.Sprintf("%s has the digest %q", p.File, p.SHA256)
		}
	}
	if x.Train.File == x.Valid.File {
		return fmt.Sprintf("%s serves for training and for validation", x.Train.File)
	}
	return ""
}

func badIndex(path, value, problem string, err error) error {
	return &fault.Input{Where: path, Value: value, Problem: problem, Err: err,
		Next: "remove the folder to have it built again, or use the program that wrote it"}
}
