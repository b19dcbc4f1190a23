package kernel_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The checked-in assembly is what gen writes. Skipped where avo is neither in the
// module cache nor to be downloaded.
func TestAssemblyIsWhatTheGeneratorWrites(t *testing.T) {
	folder := t.TempDir()
	tool := filepath.Join(folder, "gen")
	if out, err := exec.Command("go", "-C", "gen", "build", "-o", tool, ".").CombinedOutput(); err != nil {
		t.Skipf("the generator cannot be built here, avo missing? %v\n%s", err, out)
	}
	written := filepath.Join(folder, "out")
	if err := os.Mkdir(written, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, written).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files, err := os.ReadDir(written)
	if err != nil || len(files) == 0 {
		t.Fatalf("the generator wrote %d files, %v", len(files), err)
	}
	for _, f := range files {
		want, err := os.ReadFile(filepath.Join(written, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from what gen writes; run go generate", f.Name())
		}
	}
}
