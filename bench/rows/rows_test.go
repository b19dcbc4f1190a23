package rows

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What was appended is read back in order; no file is no row, and a broken one is an error.
func TestRowsComeBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rows.jsonl")
	for _, name := range []string{"", file} {
		if got, err := Read[int](name); err != nil || got != nil {
			t.Fatalf("%q: %v, %v", name, got, err)
		}
	}
	for n := range 3 {
		if err := Append(file, n); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Read[int](file); err != nil || !slices.Equal(got, []int{0, 1, 2}) {
		t.Fatalf("%v, %v", got, err)
	}
	if err := os.WriteFile(file, []byte("1\n{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := Read[int](file); err == nil {
		t.Fatalf("a broken file gave %v", got)
	}
}
