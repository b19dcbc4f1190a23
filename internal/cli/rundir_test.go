package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// A run that was killed while it waited for its first weights begins again in its folder, with the
// authority that its join strings are of; a folder with anything else in it is somebody's.
func TestAFolderThatARunHasWaitedIn(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{serve.CoordinatorName, store.ClaimName, filepath.Join(authority.Folder, "authority.pem")} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, undo, err := claim(runfile.Run{Out: dir})
	if err != nil || got != dir {
		t.Fatalf("%q, %v", got, err)
	}
	undo()
	if _, err := os.Stat(filepath.Join(dir, authority.Folder, "authority.pem")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := claim(runfile.Run{Out: dir}); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("somebody's folder: %v", err)
	}
}
