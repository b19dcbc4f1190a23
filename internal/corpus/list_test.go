package corpus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

// writeFiles makes a folder with files, by slash-separated path.
func writeFiles(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// isInput checks that an error is one that a user can mend, on one line, with text.
func isInput(t testing.TB, err error, texts ...string) {
	t.Helper()
	var input *fault.Input
	if !errors.As(err, &input) {
		t.Errorf("error %v is not an input error", err)
		return
	}
	for _, text := range append(texts, "; ") {
		if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q does not hold %q on one line", err, text)
		}
	}
}

func TestListSortsFilesByTheirPathInTheFolder(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"b.txt": "b", "a/z.txt": "z", "a-b.txt": "ab", "a.txt": "a", "B.TXT": "B",
		".hidden": "no", ".git/config": "no",
	})
	files, source, err := list(t.Context(), Spec{Paths: []string{dir}})
	if err != nil || source != dir {
		t.Fatalf("source %q, %v", source, err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.order)
	}
	if want := []string{"B.TXT", "a-b.txt", "a.txt", "a/z.txt", "b.txt"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestListKeepsTheOrderOfPaths(t *testing.T) {
	dir := writeFiles(t, map[string]string{"b.txt": "b", "a.txt": "a"})
	b, a := filepath.Join(dir, "b.txt"), filepath.Join(dir, "a.txt")
	files, source, err := list(t.Context(), Spec{Paths: []string{b, a}})
	if err != nil || len(files) != 2 || files[0].path != b || files[1].path != a {
		t.Errorf("files %+v, %v", files, err)
	}
	if source != b+", "+a {
		t.Errorf("source %q", source)
	}
	if got := describe([]string{"a", "b", "c", "d", "e"}); got != "a, b, c and 2 more" {
		t.Errorf("five paths are described as %q", got)
	}
}

func TestKindsOfFiles(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"a.jsonl":      "anything",
		"b.NDJSON":     "anything",
		"c.json":       "\n{\"text\":\"one\"}\n{\"text\":\"two\"}\n",
		"package.json": "{\n  \"name\": \"x\"\n}\n",
		"array.json":   "[{\"text\":\"one\"}]",
		"long.json":    `{"text":"` + strings.Repeat("x", 70_000) + `"}`,
		"text.md":      "{\"text\":\"one\"}\n",
	})
	want := map[string]kind{
		"a.jsonl": jsonLines, "b.NDJSON": jsonLines, "c.json": jsonLines, "long.json": jsonLines,
		"package.json": plainText, "array.json": plainText, "text.md": plainText,
	}
	files, _, err := list(t.Context(), Spec{Paths: []string{dir}})
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if f.kind != want[f.order] {
			t.Errorf("%s is of kind %d, want %d", f.order, f.kind, want[f.order])
		}
	}
	// Named by the user, a .json file is JSON Lines, so that its first line is refused
	// rather than its braces trained on.
	files, _, err = list(t.Context(), Spec{Paths: []string{filepath.Join(dir, "array.json")}})
	if err != nil || files[0].kind != jsonLines {
		t.Errorf("files %+v, %v", files, err)
	}
}

// E6: a data folder without data files was read in an endless loop elsewhere. It is
// refused at once, naming the folder and what was looked for.
func TestAFolderWithoutDataIsRefused(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no files":     {},
		"hidden files": {".a.txt": "text", ".git/b.txt": "text"},
		"binary files": {"a.bin": "\x7fELF\x00\x00"},
		"empty files":  {"a.txt": ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeFiles(t, files)
			err := Check(t.Context(), Spec{Paths: []string{dir}, ValidShare: 0.1, Seq: 8})
			isInput(t, err, dir+": holds no data files", "*.jsonl")
		})
	}
}

func TestPathsThatCannotServeAreRefused(t *testing.T) {
	dir := writeFiles(t, map[string]string{"a.gz": "\x1f\x8b\x08\x00\x00"})
	for path, problem := range map[string]string{
		filepath.Join(dir, "missing.txt"): "there is no such file or folder",
		filepath.Join(dir, "a.gz"):        "is not text",
		os.DevNull:                        "is neither a file nor a folder",
	} {
		isInput(t, Check(t.Context(), Spec{Paths: []string{path}, ValidShare: 0.1, Seq: 8}), path+": "+problem)
	}
}

func TestLinksAreFollowedToFilesOnly(t *testing.T) {
	dir := writeFiles(t, map[string]string{"a.txt": "a", "folder/b.txt": "b"})
	for name, target := range map[string]string{
		"link.txt": filepath.Join(dir, "a.txt"),
		"loop":     dir,
		"dangling": filepath.Join(dir, "nothing"),
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skipf("links cannot be made here: %v", err)
		}
	}
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Symlink(dir, root); err != nil {
		t.Fatal(err)
	}
	files, _, err := list(t.Context(), Spec{Paths: []string{root}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.order)
	}
	if want := []string{"a.txt", "folder/b.txt", "link.txt"}; !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestListStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := writeFiles(t, map[string]string{"a.txt": "a"})
	if _, _, err := list(ctx, Spec{Paths: []string{dir}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

func TestNumbersOfASpecAreChecked(t *testing.T) {
	for _, tt := range []struct {
		spec  Spec
		where string
	}{
		{Spec{ValidShare: 0, Seq: 8}, `data.valid_share "0"`},
		{Spec{ValidShare: 0.51, Seq: 8}, `data.valid_share "0.51"`},
		{Spec{ValidShare: 0.1, Seq: 0}, `train.sequence_tokens "0"`},
	} {
		isInput(t, Check(t.Context(), tt.spec), tt.where)
	}
}
