package corpus

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

// Danger: a folder of the user's own is taken for one that a killed run left, and token
// files are written among its files.
func TestLeftover(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"whole":       {map[string]string{trainName: "x", validName: "x", indexName: "{}"}, true},
		"in part":     {map[string]string{trainName: "x", indexName + ".tmp": "{"}, true},
		"text":        {map[string]string{trainName: "x", "notes.txt": "x"}, false},
		"folder":      {map[string]string{trainName + "/x": "x"}, false},
		"hidden file": {map[string]string{".git": "x"}, false},
	} {
		if got, err := Leftover(writeFiles(t, c.files)); got != c.want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := Leftover(t.TempDir()); !got || err != nil {
		t.Errorf("empty: %v, %v", got, err)
	}
	if _, err := Leftover(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}
