package corpus

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goldenSet copies the golden folder, so that a test can damage it.
func goldenSet(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "small.golden"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOpenReadsWhatBuildWrote(t *testing.T) {
	set, err := Open(goldenSet(t))
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if set.Train.Len() != 48 || set.Valid.Len() != 206 || set.Info.Documents != 4 || set.Info.Null != 1 || set.Info.Tokenizer != "bytes" {
		t.Errorf("info %+v", set.Info)
	}
	if err := set.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	window := make([]int32, 9)
	if err := set.Train.Window(0, window); err != nil || !slices.Equal(window, Encode("one line,")) {
		t.Errorf("first window %v, %v", window, err)
	}
	order := NewOrder(3, set.Train.Windows(8))
	for n := range uint64(12) {
		sample, direct := make([]int32, 9), make([]int32, 9)
		if err := errors.Join(set.Train.Sample(order, n, 8, sample), set.Train.Window(order.Window(n), direct)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sample, direct) {
			t.Errorf("sample %d is %v, its window %v", n, sample, direct)
		}
	}
}

// E5: a token file was cut by 10 bytes with its index intact; training went on for a
// while and then failed with an offset. Open fails before the first step and tells the
// bytes that the index needs and the bytes that are there.
func TestACutTokenFileIsRefusedOnOpening(t *testing.T) {
	dir := goldenSet(t)
	if err := os.Truncate(filepath.Join(dir, validName), 206-10); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir)
	isInput(t, err, validName+": the index needs 206 bytes, the file has 196")
}

func TestMissingFilesAreNamed(t *testing.T) {
	for _, name := range []string{indexName, trainName, validName} {
		dir := goldenSet(t)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		isInput(t, err, filepath.Join(dir, name)+": there is no such file")
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v hides that the file is missing", name, err)
		}
	}
}

func TestVerifyNamesTheDamagedFile(t *testing.T) {
	dir := goldenSet(t)
	path := filepath.Join(dir, trainName)
	damaged := strings.Replace(readFile(t, path), "one", "two", 1)
	if err := os.WriteFile(path, []byte(damaged), 0o644); err != nil {
		t.Fatal(err)
	}
	set, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	isInput(t, set.Verify(t.Context()), path+": its digest is ", "the index says dae607cd")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := set.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

func TestContradictionsInAnIndexAreRefused(t *testing.T) {
	golden := readFile(t, "testdata", "small.golden", indexName)
	for _, tt := range []struct{ old, new, problem string }{
		{`"format": 1`, `"format": 2`, `index.json "2": this format is unknown here, this program reads format 1`},
		{`"format": 1`, `"format": 0`, `this format is unknown here`},
		{`{`, `[`, "is not an index of token files"},
		{`"tally"`, `"talley"`, `unknown field "talley"`},
		{`"tokenizer": "bytes"`, `"tokenizer": "bpe"`, `tokenizer is "bpe"`},
		{`"vocab": 256`, `"vocab": 300`, `vocab is 300, the tokenizer "bytes" has 256`},
		// E1: two bytes with more than 65536 entries is an error.
		{`"bytes",
  "vocab": 256,
  "width_bytes": 1`, `"given", "vocab": 65537, "width_bytes": 2`, "width_bytes is 2, a vocabulary of 65537 takes 4"},
		{`"bytes",
  "vocab": 256`, `"given", "vocab": 0`, "vocab is 0"},
		{`"train.tok"`, `"../train.tok"`, `"../train.tok" is not the name of a file beside the index`},
		{`"train.tok"`, `".."`, `".." is not the name`},
		{`"train.tok"`, `"valid.tok"`, "valid.tok serves for training and for validation"},
		{`"tokens": 48`, `"tokens": 47`, "train.tok has 47 tokens in 48 bytes"},
		{`"tokens": 48`, `"tokens": -1`, "train.tok has -1 tokens"},
		{`"sha256": "dae6`, `"sha256": "`, "train.tok has the digest"},
	} {
		if !strings.Contains(golden, tt.old) {
			t.Fatalf("the golden index does not hold %s", tt.old)
		}
		_, err := decodeIndex("index.json", []byte(strings.Replace(golden, tt.old, tt.new, 1)))
		isInput(t, err, "index.json", tt.problem)
	}
	_, err := decodeIndex("index.json", []byte(golden+"{}"))
	isInput(t, err, "index.json")
}

func TestCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "tokens")
	train, valid := []int32{0, 1, 299, 5}, []int32{298, 2}
	set, err := Create(t.Context(), dir, "a test", 300, train, valid)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	got := make([]int32, 4)
	if err := set.Train.ReadAt(got, 0); err != nil || !slices.Equal(got, train) {
		t.Errorf("training tokens %v, %v", got, err)
	}
	if i := set.Info; i.Source != "a test" || i.HeldOut != asGiven || i.Vocab != 300 || !math.IsNaN(i.BigramNats) {
		t.Errorf("info %+v", i)
	}
	if _, err := Create(t.Context(), dir, "again", 300, train, valid); err == nil {
		t.Error("a second set was written over the first")
	}
	empty := filepath.Join(t.TempDir(), "tokens")
	if _, err := Create(t.Context(), empty, "nothing", 300, nil, valid); err == nil {
		t.Error("a set without training tokens was written")
	}
	if _, err := os.Stat(empty); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder was left behind: %v", err)
	}
}

// E12: the digest that processes compare before they train is that of the tokens.
func TestTheDigestFollowsTheTokens(t *testing.T) {
	digest := func(train, valid []int32) string {
		set, err := Create(t.Context(), t.TempDir(), "x", 256, train, valid)
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		return set.Info.Digest
	}
	a, b := []int32{1, 2, 3}, []int32{4, 5}
	first := digest(a, b)
	if first != digest(a, b) || first == digest(b, a) || first == digest(a, a) {
		t.Error("the digest does not tell tokens apart")
	}
}

// Whatever the bytes, an index is refused with an input error or is consistent and
// survives being written and read again.
func FuzzIndex(f *testing.F) {
	golden := readFile(f, "testdata", "small.golden", indexName)
	f.Add([]byte(golden))
	f.Add([]byte(strings.Replace(golden, "48", "-48", 2)))
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := decodeIndex("index.json", data)
		if err != nil {
			isInput(t, err, "index.json")
			return
		}
		again, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		y, err := decodeIndex("index.json", again)
		if err != nil {
			t.Fatalf("%s was read but not what it was written as: %v", data, err)
		}
		if y.Train != x.Train || y.Valid != x.Valid || y.WidthBytes != x.WidthBytes || !y.Input.same(x.Input) {
			t.Fatalf("%+v became %+v", x, y)
		}
	})
}
