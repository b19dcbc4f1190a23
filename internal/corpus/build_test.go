package corpus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// bufferTokens is a token file in memory.
func bufferTokens(to *bytes.Buffer) *tokenFile { return &tokenFile{w: bufio.NewWriter(to)} }

func mustBuild(t testing.TB, spec Spec, dir string) *Set {
	t.Helper()
	set, err := Build(t.Context(), spec, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

func readFile(t testing.TB, elements ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The tokens and the index of a small folder are pinned: the format is durable.
func TestBuildGolden(t *testing.T) {
	source, err := filepath.Abs(filepath.Join("testdata", "small"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mustBuild(t, Spec{Paths: []string{source}, ValidShare: 0.4, Seq: 16}, dir)
	for _, name := range []string{indexName, trainName, validName} {
		got := strings.ReplaceAll(readFile(t, dir, name), source, "SOURCE")
		golden := filepath.Join("testdata", "small.golden", name)
		if *rewrite {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := readFile(t, golden); got != want {
			t.Errorf("%s:\n%q\nwant\n%q", name, got, want)
		}
	}
}

func TestDocumentsFollowEachOtherInOrder(t *testing.T) {
	source := writeFiles(t, map[string]string{"a.txt": "first\n", "b.jsonl": "{\"text\":\"second\"}\n{\"text\":\"third\"}\n", "c.txt": "fourth"})
	// So small a share holds no document back, so the end of the text is.
	set := mustBuild(t, Spec{Paths: []string{source}, ValidShare: 1e-9, Seq: 4}, t.TempDir())
	train, valid := readFile(t, set.dir, trainName), readFile(t, set.dir, validName)
	if got, want := train+valid, "first\n\xffsecond\xffthird\xfffourth\xff"; got != want {
		t.Errorf("tokens %q, want %q", got, want)
	}
	if set.Info.HeldOut != byPosition || len(valid) != 5 || set.Info.HeldOutDocs != 0 {
		t.Errorf("held out %q %s", valid, set.Info.HeldOut)
	}
}

// E10: one document has one end token, whatever its text.
func TestOneDocumentHasOneEnd(t *testing.T) {
	source := writeFiles(t, map[string]string{"a.txt": "a text with \xff and <|endoftext|> in it"})
	set := mustBuild(t, Spec{Paths: []string{source}, ValidShare: 0.3, Seq: 4}, t.TempDir())
	tokens := readFile(t, set.dir, trainName) + readFile(t, set.dir, validName)
	if n := strings.Count(tokens, "\xff"); n != 1 || !strings.HasSuffix(tokens, "\xff") {
		t.Errorf("tokens %q", tokens)
	}
}

// A document goes whole to one side, the same one whatever else is in the corpus, and
// copies of it go with it.
func TestHeldOutDocumentsDoNotDependOnTheOthers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		texts := rapid.SliceOfN(rapid.StringMatching("[a-z]{1,12}"), 1, 20).Draw(rt, "texts")
		side := func(text string) bool {
			var r reading
			r.keep([]byte(text))
			return r.documents[0].heldOut(0.5)
		}
		b := &builder{spec: Spec{ValidShare: 0.5}, input: input{HeldOut: byDocument}}
		var train, valid bytes.Buffer
		b.train, b.valid = bufferTokens(&train), bufferTokens(&valid)
		var wantTrain, wantValid string
		for _, text := range texts {
			var r reading
			r.keep([]byte(text))
			if err := b.place(r.documents[0]); err != nil {
				rt.Fatal(err)
			}
			if side(text) {
				wantValid += text + "\xff"
			} else {
				wantTrain += text + "\xff"
			}
		}
		b.train.w.Flush()
		b.valid.w.Flush()
		if train.String() != wantTrain || valid.String() != wantValid {
			rt.Fatalf("train %q valid %q", train.String(), valid.String())
		}
		if b.train.tokens+b.valid.tokens != int64(train.Len()+valid.Len()) {
			rt.Fatalf("%d and %d tokens counted", b.train.tokens, b.valid.tokens)
		}
	})
}

// E12 in small: however many workers build the tokens, they are the same.
func TestTokensDoNotDependOnWorkers(t *testing.T) {
	files := map[string]string{}
	for i := range 200 {
		files[strings.Repeat("x", i%7+1)+string(rune('a'+i%26))+".txt"] = strings.Repeat("text of a file\n", i+1)
	}
	files["long.txt"] = strings.Repeat("a longer text\n", 100_000)
	files["lines.jsonl"] = strings.Repeat("{\"text\":\"a line\"}\n", 70_000)
	source := writeFiles(t, files)
	digests := map[string]bool{}
	for _, workers := range []int{1, 4} {
		before := runtime.GOMAXPROCS(workers)
		set := mustBuild(t, Spec{Paths: []string{source}, ValidShare: 0.1, Seq: 32}, t.TempDir())
		runtime.GOMAXPROCS(before)
		digests[set.Info.Digest] = true
	}
	if len(digests) != 1 {
		t.Errorf("digests %v", digests)
	}
}

// E7: a shard of 1000 tokens for sequences of 1024. Elsewhere a worker never got a
// batch and the run hung. Refused: a sequence takes 1025 tokens, and one more of that
// length is held back.
func TestTextShorterThanASequenceIsRefused(t *testing.T) {
	source := writeFiles(t, map[string]string{"a.txt": strings.Repeat("x", 999)})
	spec := Spec{Paths: []string{source}, ValidShare: 0.1, Seq: 1024}
	dir := filepath.Join(t.TempDir(), "tokens")
	isInput(t, Check(t.Context(), spec), source+": has 1000 tokens, needs 2050", "one sequence of 1025 tokens")
	_, err := Build(t.Context(), spec, dir, nil)
	isInput(t, err, source+": has 1000 tokens, needs 2050")
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was left behind: %v", err)
	}
	spec.Seq = 499
	if err := Check(t.Context(), spec); err != nil {
		t.Errorf("twice 500 tokens are enough: %v", err)
	}
	if set := mustBuild(t, spec, dir); set.Train.Windows(499) != 1 || set.Valid.Windows(499) != 1 {
		t.Errorf("%d and %d windows", set.Train.Windows(499), set.Valid.Windows(499))
	}
}

func TestDataWithoutTextIsRefusedWithCounts(t *testing.T) {
	source := writeFiles(t, map[string]string{"a.jsonl": "{\"content\":\"x\"}\n\n{\"text\":null}\n"})
	spec := Spec{Paths: []string{source}, ValidShare: 0.1, Seq: 8}
	isInput(t, Check(t.Context(), spec), source+": holds no text", "1 blank lines, 1 lines with null, 1 without")
}

// A failed or cancelled attempt leaves nothing, and nothing of others is touched.
func TestAFailedBuildLeavesNothing(t *testing.T) {
	source := writeFiles(t, map[string]string{"a.txt": "good", "b.jsonl": "{broken\n"})
	dir := writeFiles(t, map[string]string{"run.yaml": "kept"})
	_, err := Build(t.Context(), Spec{Paths: []string{source}, ValidShare: 0.1, Seq: 1}, dir, nil)
	isInput(t, err, "b.jsonl:1: is not a JSON object")

	ctx, cancel := context.WithCancel(t.Context())
	good := writeFiles(t, map[string]string{"a.txt": "good", "b.txt": "better"})
	_, err = Build(ctx, Spec{Paths: []string{good}, ValidShare: 0.1, Seq: 1}, dir, func(done, total int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "run.yaml" {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestAnUnfinishedFolderIsBuiltAnew(t *testing.T) {
	source := writeFiles(t, map[string]string{"a.txt": "a text that is long enough"})
	dir := writeFiles(t, map[string]string{trainName: strings.Repeat("leftover", 100)})
	set := mustBuild(t, Spec{Paths: []string{source}, ValidShare: 0.3, Seq: 4}, dir)
	if n := set.Train.Len() + set.Valid.Len(); n != 27 {
		t.Errorf("%d tokens, want 27", n)
	}
}

// A resumed run sees the tokens that it began with, even when the text has changed.
func TestAWholeFolderIsReused(t *testing.T) {
	source := writeFiles(t, map[string]string{"a.txt": "a text that is long enough"})
	spec := Spec{Paths: []string{source}, ValidShare: 0.3, Seq: 4}
	dir := t.TempDir()
	first := mustBuild(t, spec, dir)
	if err := os.WriteFile(filepath.Join(source, "a.txt"), []byte("another text, as long as it was"), 0o644); err != nil {
		t.Fatal(err)
	}
	again := mustBuild(t, spec, dir)
	if again.Info.Digest != first.Info.Digest {
		t.Error("the tokens were built anew")
	}

	other := spec
	other.Paths = []string{filepath.Join(source, "a.txt")}
	_, err := Build(t.Context(), other, dir, nil)
	isInput(t, err, dir+": holds the tokens of other data ("+source+")")

	longer := spec
	longer.Seq = 100
	_, err = Build(t.Context(), longer, dir, nil)
	isInput(t, err, "has 27 tokens, needs 202")
}

func TestProgressRisesToTheTotal(t *testing.T) {
	source := writeFiles(t, map[string]string{"a.txt": "some text", "b.jsonl": "{\"text\":\"more text\"}\r\n", "c.bin": "x\x00"})
	var seen []int64
	set, err := Build(t.Context(), Spec{Paths: []string{source}, ValidShare: 0.5, Seq: 1}, t.TempDir(), func(done, total int64) {
		if total != 33 {
			t.Errorf("total %d, want 33", total)
		}
		seen = append(seen, done)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if len(seen) == 0 || seen[len(seen)-1] != 33 || !slices.IsSorted(seen[len(seen)/2:]) {
		t.Errorf("progress %v", seen)
	}
	if set.Info.Bytes != 33 || set.Info.Binary != 1 {
		t.Errorf("info %+v", set.Info)
	}
}
