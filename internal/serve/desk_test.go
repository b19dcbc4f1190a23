package serve

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/mistura-project/mistura/internal/store"
)

// FuzzDeskNames: whatever is asked for, the desk gives out the run file, token files and
// checkpoints, and nothing else that lies in the run folder or above it.
func FuzzDeskNames(f *testing.F) {
	above := f.TempDir()
	dir := filepath.Join(above, "run")
	for name, content := range map[string]string{
		"run.yaml": "open", "data/index.json": "open", "checkpoints/00000001/manifest.json": "open", "authority/authority.pem": "secret",
		"coordinator.json": "secret", "tape/era-0001/coord/1.jsonl": "secret", "../beside": "secret", "data/deep/file": "secret",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			f.Fatal(err)
		}
		f.Add(name)
	}
	for _, name := range []string{"data/../authority/authority.pem", "checkpoints/../../beside", "data\\..\\beside", "data/./index.json", "checkpoints//x", "data", "/etc/passwd", "data/\x00", ""} {
		f.Add(name)
	}
	st, err := store.OpenFolder(dir)
	if err != nil {
		f.Fatal(err)
	}
	d := desk{&host{opened: &opened{store: st, dataDir: filepath.Join(dir, dataFolder)}}}
	f.Fuzz(func(t *testing.T, name string) {
		file, err := d.Fetch(t.Context(), nil, name)
		if err != nil {
			return
		}
		defer file.Close()
		got, err := io.ReadAll(io.NewSectionReader(file, 0, file.Size()))
		if err != nil || string(got) != "open" {
			t.Fatalf("%q gives %q, %v", name, got, err)
		}
	})
}
