package corpus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/mistura-project/mistura/internal/fault"
)

// How the held-out text was chosen.
const (
	// byDocument: documents whose hash falls below the share.
	byDocument = "by document"
	// byPosition: the end of the text, where there are too few documents to choose from.
	byPosition = "by position"
	// asGiven: Create was given both parts.
	asGiven = "as given"
)

// Build reads the text of a spec and writes its token files and index into dir, which
// it makes if need be. A folder that already holds the whole set of the same spec is
// opened as it is, even when the text has changed since: a resumed run must see the
// tokens it began with. progress, when not nil, hears of bytes read and bytes in all
// from one goroutine. After an error nothing of the attempt is left behind.
func Build(ctx context.Context, spec Spec, dir string, progress func(done, total int64)) (*Set, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	if set, err := reuse(spec, dir); set != nil || err != nil {
		return set, err
	}
	files, source, err := list(ctx, spec)
	if err != nil {
		return nil, err
	}
	in, err := spec.input(source)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make token folder: %w", err)
	}
	b := &builder{spec: spec, dir: dir, files: files, input: in, progress: progress}
	if err := b.run(ctx); err != nil {
		return nil, errors.Join(err, discard(dir))
	}
	return Open(dir)
}

// reuse opens a folder that is whole already; nil when there is none.
func reuse(spec Spec, dir string) (*Set, error) {
	if _, err := os.Stat(filepath.Join(dir, indexName)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	set, err := Open(dir)
	if err != nil {
		return nil, err
	}
	want, err := spec.input("")
	if err == nil && !set.index.Input.same(want) {
		err = &fault.Input{Where: dir, Problem: fmt.Sprintf("holds the tokens of other data (%s)", set.Info.Source),
			Next: "give the same data as before, or another --out"}
	}
	if short := min(set.Train.Len(), set.Valid.Len()); err == nil && short < int64(spec.Seq)+1 {
		err = tooShort(set.Info.Source, spec.Seq, set.Train.Len()+set.Valid.Len())
	}
	if err != nil {
		return nil, errors.Join(err, set.Close())
	}
	return set, nil
}

// discard removes what an attempt has left, and the folder when nothing else is in it.
func discard(dir string) error {
	var err error
	for _, name := range []string{trainName, validName, indexName + ".tmp"} {
		if e := os.Remove(filepath.Join(dir, name)); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	os.Remove(dir) // fails when it is not empty, as it should
	return err
}

// builder makes one folder.
type builder struct {
	spec     Spec
	dir      string
	files    []file
	input    input
	progress func(done, total int64)

	train, valid *tokenFile
	tally        Tally
}

func (b *builder) run(ctx context.Context) error {
	if err := b.tokenize(ctx); err != nil {
		return err
	}
	need := int64(b.spec.Seq) + 1
	if b.train.tokens < need || b.valid.tokens < need {
		if err := enough(b.input.Source, b.spec, b.tally, b.train.tokens+b.valid.tokens); err != nil {
			return err
		}
		b.input.HeldOut = byPosition
		if err := b.tokenize(ctx); err != nil {
			return err
		}
	}
	x, err := describeTokens(ctx, b.dir, Vocab)
	if err != nil {
		return err
	}
	x.Input, x.Tally = b.input, b.tally
	return seal(b.dir, x)
}

// enough refuses text that is too short however it is divided.
func enough(source string, spec Spec, tally Tally, tokens int64) error {
	if tally.Documents == 0 {
		return &fault.Input{Where: source, Problem: fmt.Sprintf(
			"holds no text: %d files read, %d binary, %d generated, %d empty documents, %d blank lines, %d lines with null, %d without the key \"text\"",
			tally.Files, tally.Binary, tally.Generated, tally.Empty, tally.Blank, tally.Null, tally.Missing),
			Next: "give other data with --data"}
	}
	if tokens < 2*(int64(spec.Seq)+1) {
		return tooShort(source, spec.Seq, tokens)
	}
	return nil
}

// tokenize writes both token files.
func (b *builder) tokenize(ctx context.Context) (err error) {
	b.tally = Tally{}
	b.train, b.valid = nil, nil
	defer func() { err = errors.Join(err, b.train.close(), b.valid.close()) }()
	if b.train, err = createTokens(filepath.Join(b.dir, trainName)); err != nil {
		return err
	}
	if b.valid, err = createTokens(filepath.Join(b.dir, validName)); err != nil {
		return err
	}
	total := totalBytes(b.files)
	err = readAll(ctx, b.files, b.spec.Strict, func(r reading) error {
		b.tally.add(r.tally)
		if b.progress != nil {
			b.progress(min(b.tally.Bytes, total), total)
		}
		for _, d := range r.documents {
			if err := b.place(d); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && b.input.HeldOut == byPosition {
		err = b.divide()
	}
	if err == nil && b.progress != nil {
		b.progress(total, total)
	}
	return err
}

// place writes a document where it belongs.
func (b *builder) place(d document) error {
	if b.input.HeldOut == byDocument && d.heldOut(b.spec.ValidShare) {
		b.tally.HeldOutDocs++
		return b.valid.append(d.text)
	}
	return b.train.append(d.text)
}

// divide moves the end of the training tokens to the held-out ones.
func (b *builder) divide() error {
	need := int64(b.spec.Seq) + 1
	tail := max(need, int64(b.spec.ValidShare*float64(b.train.tokens)))
	keep := b.train.tokens - tail
	if err := b.train.w.Flush(); err != nil {
		return fmt.Errorf("divide tokens: %w", err)
	}
	if _, err := io.Copy(b.valid.w, io.NewSectionReader(b.train.f, keep, tail)); err != nil {
		return fmt.Errorf("divide tokens: %w", err)
	}
	if err := b.train.f.Truncate(keep); err != nil {
		return fmt.Errorf("divide tokens: %w", err)
	}
	b.train.tokens, b.valid.tokens = keep, tail
	return nil
}

func totalBytes(files []file) int64 {
	var n int64
	for _, f := range files {
		n += f.size
	}
	return n
}

// tokenFile is a token file being written, one byte a token.
type tokenFile struct {
	f      *os.File
	w      *bufio.Writer
	tokens int64
}

func createTokens(path string) (*tokenFile, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("make token file: %w", err)
	}
	return &tokenFile{f: f, w: bufio.NewWriterSize(f, 1<<20)}, nil
}

func (t *tokenFile) append(text []byte) error {
	_, err := t.w.Write(text)
	if err == nil {
		err = t.w.WriteByte(EndOfDocument)
	}
	if err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	t.tokens += int64(len(text)) + 1
	return nil
}

func (t *tokenFile) close() error {
	if t == nil {
		return nil
	}
	return errors.Join(t.w.Flush(), t.f.Close())
}

// describeTokens makes the index of the two token files in dir: sizes, digests and,
// for bytes, n-gram figures.
func describeTokens(ctx context.Context, dir string, vocab int) (index, error) {
	x := index{
		Format: Format, Tokenizer: ByteTokenizer, Vocab: vocab, WidthBytes: widthOf(vocab),
		Train: part{File: trainName}, Valid: part{File: validName},
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return errors.Join(x.Train.describe(ctx, dir, x.WidthBytes), x.Valid.describe(ctx, dir, x.WidthBytes))
	})
	if vocab == Vocab {
		group.Go(func() (err error) {
			x.NGrams, err = measureFiles(ctx, dir)
			return err
		})
	}
	return x, group.Wait()
}

func (p *part) describe(ctx context.Context, dir string, width int) error {
	path := filepath.Join(dir, p.File)
	stat, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("describe tokens: %w", err)
	}
	p.Bytes = stat.Size()
	p.Tokens = p.Bytes / int64(width)
	p.SHA256, err = digestFile(ctx, path)
	return err
}

func measureFiles(ctx context.Context, dir string) (*ngrams, error) {
	train, err := os.Open(filepath.Join(dir, trainName))
	if err != nil {
		return nil, fmt.Errorf("count n-grams: %w", err)
	}
	defer train.Close()
	valid, err := os.Open(filepath.Join(dir, validName))
	if err != nil {
		return nil, fmt.Errorf("count n-grams: %w", err)
	}
	defer valid.Close()
	return measure(ctx, train, valid)
}
