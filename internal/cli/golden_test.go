package cli

import (
	"bytes"
	"os"
	"testing"
)

// wrote is what a verb that succeeds writes to stdout.
func wrote(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := Main(Env{Args: append([]string{"mistura"}, args...), Stdout: &out, Stderr: &errs}); code != 0 {
		t.Fatalf("%v: exit code %d: %s", args, code, &errs)
	}
	return out.String()
}

// golden compares an output with the file that keeps it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s; go test ./internal/cli -run %s -rewrite writes it anew:\n%s", file, t.Name(), got)
	}
}
