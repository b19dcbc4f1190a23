package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// A run that has saved nothing yet cannot be resumed, and nobody is sent that way.
func TestNothingToGoOnFrom(t *testing.T) {
	const anew = "mistura train mine/run.yaml"
	c := train(t, func(_ context.Context, _ *call, o serve.Options) error {
		return errors.Join(fakeRunFile(o), os.WriteFile("unsaved", nil, 0o644))
	}, "--out", "mine")
	if !strings.Contains(c.stdout.String(), "begin anew with\n  "+anew+"\n") || strings.Contains(c.stdout.String(), "--resume") {
		t.Errorf("the report says\n%s", &c.stdout)
	}
	nothing := &fault.Input{Where: "mine", Problem: "there is nothing to load", Next: "give another", Err: store.ErrNoCheckpoint}
	for want, args := range map[string]string{
		`mistura: --resume "mine": there is nothing to go on from (` + store.ErrNoCheckpoint.Error() + `); begin`: "--resume mine",
		`mistura: --out "mine": already holds a run; give a new`:                                                  "--out mine",
	} {
		var stderr strings.Builder
		code := Main(Env{
			Args: append([]string{"mistura", "train"}, strings.Fields(args)...), Stdout: &stderr, Stderr: &stderr,
			Train: failsWith(nothing),
		})
		if code != exitInput || !strings.HasPrefix(stderr.String(), want) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: exit code %d, %s", args, code, &stderr)
		}
		if strings.Contains(args, "resume") && !strings.HasSuffix(stderr.String(), "begin the run anew by "+anew+"\n") {
			t.Errorf("%s: %s", args, &stderr)
		}
	}
}

// fakeRunFile leaves what a run leaves that dies before it has saved.
func fakeRunFile(o serve.Options) error {
	run := o.Run
	run.Out = ""
	return errors.Join(os.WriteFile(filepath.Join(o.Dir, runFileName), run.Marshal(), 0o644), errors.New("died"))
}

func failsWith(err error) func(context.Context, serve.Options) (ledger.Summary, error) {
	return func(context.Context, serve.Options) (ledger.Summary, error) { return ledger.Summary{}, err }
}

// The danger: islands that look for a run where it was are alone, because it listens elsewhere since it was resumed.
func TestServeResumesWhereTheRunWas(t *testing.T) {
	t.Chdir(t.TempDir())
	run, err := runfile.Default().Resolve()
	if err = errors.Join(err, os.Mkdir("mine", 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("mine", runFileName), run.Marshal(), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ wrote, flag, want string }{
		"as it was":        {`{"run_id": "r", "address": "127.0.0.1:4000", "listen": "10.0.0.5:7171"}`, "", "10.0.0.5:7171"},
		"elsewhere":        {`{"run_id": "r", "address": "127.0.0.1:4000", "listen": "10.0.0.5:7171"}`, "--listen=:7272", ":7272"},
		"by default":       {`{"run_id": "r", "address": "127.0.0.1:4000", "listen": "10.0.0.5:7171"}`, "--listen=:7070", ":7070"},
		"was here only":    {`{"run_id": "r", "address": "127.0.0.1:4000"}`, "", ":7070"},
		"nobody knows":     {`{`, "", ":7070"},
		"it has not begun": {"", "", ":7070"},
	} {
		os.Remove(filepath.Join("mine", serve.CoordinatorName)) //nolint:errcheck // it is not there before the first
		if c.wrote != "" {
			if err := os.WriteFile(filepath.Join("mine", serve.CoordinatorName), []byte(c.wrote), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got := ""
		args := strings.Fields("mistura serve --resume mine " + c.flag)
		Main(Env{Args: args, Stdout: io.Discard, Stderr: io.Discard, Train: func(_ context.Context, o serve.Options) (ledger.Summary, error) {
			got = o.Listen
			return ledger.Summary{}, nil
		}})
		if got != c.want {
			t.Errorf("%s: it listens at %q, want %q", name, got, c.want)
		}
	}
}
