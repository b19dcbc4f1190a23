package store_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/store"
)

// Of two that claim a folder the second is told who has it, until that lets it go or is killed.
func TestClaim(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd, lines := helper(t, "claim", dir)
	if !lines.Scan() || lines.Text() != "claimed" {
		t.Fatalf("the other process says %q", lines.Text())
	}
	if release, holder, err := st.Claim(t.Context(), "this one", 0); release != nil || holder != "the other one" || err != nil {
		t.Errorf("claimed by %q: %v", holder, err)
	}
	go cmd.Process.Kill() //nolint:errcheck // a moment after it was asked for; the next line tells
	release, _, err := st.Claim(t.Context(), "this one", time.Minute)
	if err != nil || release == nil {
		t.Fatal("not free after the end of its holder", err)
	}
	if again, holder, _ := st.Claim(t.Context(), "me too", 0); again != nil || holder != "this one" {
		t.Errorf("claimed by %q", holder)
	}
	if again, holder, _ := st.Claim(t.Context(), "this one", time.Hour); again != nil || holder != "this one" { // does not wait for itself
		t.Errorf("claimed by %q", holder)
	}
	release()
	if again, _, _ := st.Claim(t.Context(), "me too", 0); again == nil {
		t.Error("not free once it was let go")
	} else {
		again()
	}
}

func helperClaim(st *store.Folder) error {
	if _, _, err := st.Claim(context.Background(), "the other one", 0); err != nil {
		return err
	}
	os.Stdout.WriteString("claimed\n") //nolint:errcheck // the test has gone
	_, err := os.Stdin.Read(make([]byte, 1))
	return err
}
