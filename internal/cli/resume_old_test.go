package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// A run of before limits had an order goes on once its own file says them in order; which line
// that is, it hears.
func TestResumeWithLimitsOutOfOrder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, runFileName)
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const old = "tokens: 128k\ndata: {paths: [.]}\nmodel: {preset: ling-tiny}\nlimits:\n  heartbeat_seconds: 30\n  stall_seconds: 5\n"
	resume := func() (int, string, bool) {
		var out strings.Builder
		begun := false
		code := Main(Env{Args: []string{"mistura", "train", "--resume", dir}, Stdout: &out, Stderr: &out, Train: func(ctx context.Context, o serve.Options) (ledger.Summary, error) {
			begun = true
			return failsWith(nil)(ctx, o)
		}})
		return code, out.String(), begun
	}
	write(old)
	code, said, begun := resume()
	if code != exitInput || begun || strings.Count(said, "\n") != 1 ||
		!strings.Contains(said, file+":6: limits.stall_seconds") || !strings.Contains(said, "must be at least limits.heartbeat_seconds, which is 30") || !strings.Contains(said, "raise the one or lower the other") {
		t.Errorf("exit code %d, %s", code, said)
	}
	write(strings.Replace(old, "stall_seconds: 5", "stall_seconds: 60", 1))
	if code, said, begun := resume(); !begun {
		t.Errorf("with its limits in order: exit code %d, %s", code, said)
	}
}

// What a run leaves that was killed before it began does not keep the next from its folder.
func TestBeginWhereOneWasKilledAtOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, store.ClaimName), []byte("process 7 on here\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	begun := ""
	c := train(t, func(_ context.Context, _ *call, o serve.Options) error {
		begun = o.Dir
		return nil
	}, "--out", dir)
	if begun != dir {
		t.Errorf("it does not begin: %s", &c.stderr)
	}
}
