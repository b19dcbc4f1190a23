package corpus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/mistura-project/mistura/internal/fault"
)

// Set is an open folder of token files.
type Set struct {
	Train *Tokens // what learners train on
	Valid *Tokens // held back
	Info  Info

	dir   string
	index index
	files []*os.File
}

// Info tells about a corpus.
type Info struct {
	Source      string // where the text is from, for people
	HeldOut     string // how the validation text was chosen: "by document", "by position" or "as given"
	Tokenizer   string // "bytes" or "given", as in the index
	Vocab       int
	TrainTokens int64
	ValidTokens int64
	Digest      string // SHA-256 over both token files, hex; equal for equal tokens
	Tally

	// Cross-entropy in nats a token of the held-out text under byte n-grams counted
	// on the training text: what a model must beat. NaN when unknown.
	UnigramNats, BigramNats, TrigramNats float64
}

// Tally counts what was read and what was left out.
type Tally struct {
	Bytes        int64 `json:"bytes"`         // of files read
	Files        int64 `json:"files"`         // read
	Documents    int64 `json:"documents"`     // kept
	HeldOutDocs  int64 `json:"held_out_docs"` // of these, kept for validation by document
	Binary       int64 `json:"binary"`        // files left out: they hold a zero byte
	Generated    int64 `json:"generated"`     // files of the Go source tree left out as generated
	Blank        int64 `json:"blank"`         // blank lines of JSON Lines
	Empty        int64 `json:"empty"`         // documents without text
	Null         int64 `json:"null"`          // lines whose text is null
	Missing      int64 `json:"missing"`       // lines without the key "text"
	InvalidBytes int64 `json:"invalid_bytes"` // bytes that were no UTF-8, replaced by U+FFFD
}

func (t *Tally) add(o Tally) {
	t.Bytes += o.Bytes
	t.Files += o.Files
	t.Documents += o.Documents
	t.HeldOutDocs += o.HeldOutDocs
	t.Binary += o.Binary
	t.Generated += o.Generated
	t.Blank += o.Blank
	t.Empty += o.Empty
	t.Null += o.Null
	t.Missing += o.Missing
	t.InvalidBytes += o.InvalidBytes
}

// Open opens a folder that Build or Create made. It checks sizes, Verify digests.
func Open(dir string) (*Set, error) {
	path := filepath.Join(dir, indexName)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, missingFile(path, err)
	}
	x, err := decodeIndex(path, data)
	if err != nil {
		return nil, err
	}
	s := &Set{dir: dir, index: x, Info: x.info()}
	for _, o := range []struct {
		p  part
		to **Tokens
	}{{x.Train, &s.Train}, {x.Valid, &s.Valid}} {
		tokens, f, err := openTokens(filepath.Join(dir, o.p.File), o.p, x.Vocab)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		*o.to = tokens
		s.files = append(s.files, f)
	}
	return s, nil
}

// Close closes the token files.
func (s *Set) Close() error {
	var err error
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	s.files = nil
	return err
}

// Verify reads both token files whole and compares their digests with the index.
func (s *Set) Verify(ctx context.Context) error {
	for _, p := range []part{s.index.Train, s.index.Valid} {
		path := filepath.Join(s.dir, p.File)
		digest, err := digestFile(ctx, path)
		if err != nil {
			return err
		}
		if digest != p.SHA256 {
			return &fault.Input{Where: path, Problem: fmt.Sprintf("its digest is %s, the index says %s", digest, p.SHA256),
				Next: "remove the folder to have it built again"}
		}
	}
	return nil
}

// info is what the index tells to callers.
func (x index) info() Info {
	i := Info{
		Source: x.Input.Source, HeldOut: x.Input.HeldOut, Tokenizer: x.Tokenizer, Vocab: x.Vocab,
		TrainTokens: x.Train.Tokens, ValidTokens: x.Valid.Tokens, Tally: x.Tally,
		UnigramNats: math.NaN(), BigramNats: math.NaN(), TrigramNats: math.NaN(),
	}
	sum := sha256.Sum256([]byte(x.Train.SHA256 + "\n" + x.Valid.SHA256 + "\n"))
	i.Digest = hex.EncodeToString(sum[:])
	if n := x.NGrams; n != nil {
		i.UnigramNats, i.BigramNats, i.TrigramNats = n.Unigram, n.Bigram, n.Trigram
	}
	return i
}

// digestFile is the SHA-256 of a file, hex.
func digestFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", missingFile(path, err)
	}
	defer f.Close()
	h := sha256.New()
	block := make([]byte, 1<<20)
	for {
		n, err := f.Read(block)
		h.Write(block[:n])
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return "", fmt.Errorf("digest of %s: %w", path, err)
		}
	}
}

// seal makes a folder whole: token files to the disk, then the index.
func seal(dir string, x index) error {
	for _, p := range []part{x.Train, x.Valid} {
		if err := syncFile(filepath.Join(dir, p.File)); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return fmt.Errorf("encode index: %w", err)
	}
	path := filepath.Join(dir, indexName)
	temp := path + ".tmp"
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	if err := syncFile(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

func missingFile(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &fault.Input{Where: path, Problem: "there is no such file, so this folder holds no whole set of tokens",
			Next: "build it with a run", Err: fs.ErrNotExist}
	}
	return fmt.Errorf("open token folder: %w", err)
}

func wrongSize(path string, need, has int64) error {
	return &fault.Input{Where: path, Problem: fmt.Sprintf("the index needs %d bytes, the file has %d", need, has),
		Next: "remove the folder to have it built again"}
}
