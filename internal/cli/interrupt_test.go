package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/serve"
)

// call is one call of the command line with signals at hand.
type call struct {
	stdout, stderr bytes.Buffer
	signals        chan os.Signal
	code           int
}

// train calls train in a fresh folder with a training of its own.
func train(t *testing.T, work func(ctx context.Context, c *call, o serve.Options) error, args ...string) *call {
	t.Chdir(t.TempDir())
	c := &call{signals: make(chan os.Signal, 2)}
	c.code = Main(Env{
		Args: append([]string{"mistura", "train"}, args...), Stdin: strings.NewReader(""), Stdout: &c.stdout, Stderr: &c.stderr,
		Signals: c.signals,
		Train: func(ctx context.Context, o serve.Options) (ledger.Summary, error) {
			s := ledger.New()
			o.Emit(ledger.RunStarted{At: at(0), RunID: "4f1d", Dir: o.Dir, Tokens: 1000})
			s.Apply(ledger.RunStarted{At: at(0), RunID: "4f1d", Dir: o.Dir, Tokens: 1000})
			saved := ledger.CheckpointSaved{At: at(1), Number: 1, Path: "checkpoints/00000001"}
			err := work(ctx, c, o)
			if _, bad := os.Stat("unsaved"); bad != nil {
				s.Apply(saved)
			}
			return s.Summary(), err
		},
	})
	return c
}

func TestFirstInterruptAsksTheRunToEnd(t *testing.T) {
	c := train(t, func(ctx context.Context, c *call, o serve.Options) error {
		c.signals <- os.Interrupt
		<-o.Interrupt
		if ctx.Err() != nil {
			t.Error("the first interrupt stops at once")
		}
		return serve.ErrInterrupted
	})
	if c.code != 130 {
		t.Errorf("exit code %d", c.code)
	}
	if !strings.Contains(c.stdout.String(), "train --resume runs/ling-nano-1") {
		t.Errorf("does not say how to go on:\n%s", &c.stdout)
	}
}

func TestSecondInterruptStopsAtOnce(t *testing.T) {
	c := train(t, func(ctx context.Context, c *call, _ serve.Options) error {
		c.signals <- os.Interrupt
		c.signals <- os.Interrupt
		<-ctx.Done()
		return ctx.Err()
	})
	if c.code != 130 || c.stderr.String() != "mistura: stopped\n" {
		t.Errorf("exit code %d, %s", c.code, &c.stderr)
	}
}

// A run that is done before it can be interrupted is done.
func TestInterruptTooLate(t *testing.T) {
	c := train(t, func(_ context.Context, c *call, _ serve.Options) error {
		c.signals <- os.Interrupt
		return nil
	})
	if c.code != 0 || c.stderr.Len() != 0 {
		t.Errorf("exit code %d, %s", c.code, &c.stderr)
	}
}

// Verbs that are no runs end at once, say so in a word and leave nothing.
func TestInterruptOfOtherVerbs(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := saveTiny("run", 1, nil); err != nil {
		t.Fatal(err)
	}
	if code := Main(Env{Args: strings.Fields("mistura export --format hf --from run hf"), Stdout: io.Discard, Stderr: io.Discard}); code != 0 {
		t.Fatal("no export to begin with")
	}
	before, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"export --format hf --from run new", "import hf --out new", "import hf", "bench engine --model ling-tiny", "sample --from run --tokens 100000000"} {
		for range 3 { // wherever it is when the signal comes
			c := &call{signals: make(chan os.Signal, 1)}
			c.signals <- os.Interrupt
			c.code = Main(Env{Args: append([]string{"mistura"}, strings.Fields(line)...), Stdout: &c.stdout, Stderr: &c.stderr, Signals: c.signals})
			if c.code == exitDone && c.stderr.Len() == 0 {
				if err := errors.Join(os.RemoveAll("new"), os.RemoveAll("runs")); err != nil { // it was done before it heard
					t.Fatal(err)
				}
				continue
			}
			if c.code != exitInterrupted || c.stderr.String() != "mistura: interrupted\n" {
				t.Errorf("%s: exit code %d, %s", line, c.code, &c.stderr)
			}
		}
	}
	after, err := os.ReadDir(".")
	if err != nil || len(after) != len(before) {
		t.Errorf("left behind: %v, %v", after, err)
	}
}

func TestInterruptOfARunInJSON(t *testing.T) {
	c := train(t, func(_ context.Context, c *call, o serve.Options) error {
		c.signals <- os.Interrupt
		<-o.Interrupt
		return serve.ErrInterrupted
	}, "--json")
	lines := strings.Split(strings.TrimSpace(c.stdout.String()), "\n")
	if c.code != 130 || len(lines) != 1 || !strings.HasPrefix(lines[0], `{"tokens":`) {
		t.Errorf("exit code %d, stdout\n%s", c.code, &c.stdout)
	}
}

func TestIslandsAreStartedWithTheirJoinStringOnStdin(t *testing.T) {
	train(t, func(_ context.Context, _ *call, o serve.Options) error {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(o.StartIsland, " "); got != exe+" join -" {
			t.Errorf("islands are started by %q", got)
		}
		return nil
	})
}
