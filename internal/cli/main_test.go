package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// The scripts run the command line in this test binary. Its training is played by
// fakeTrain, so that they test what goes in and what is shown; runs that train are
// tested elsewhere.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"mistura": func() {
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, os.Interrupt)
		os.Exit(Main(Env{
			Args:  append([]string{"mistura"}, os.Args[1:]...),
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
			Signals: signals,
			Train:   fakeTrain,
		}))
	}})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("REWRITE") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("FAKE", "finish")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"mkrun": mkrun,
			"flip":  flip,
			"spoil": spoil,
		},
	})
}

// exits runs a command and demands its exit code: exits 2 mistura train …
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// mkrun writes a run folder with checkpoints of untrained tiny models: mkrun DIR
// NUMBER [TENSOR…], all but the tensors named.
func mkrun(ts *testscript.TestScript, _ bool, args []string) {
	number, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	ts.Check(saveTiny(ts.MkAbs(args[0]), number, args[2:]))
}

func saveTiny(dir string, number uint64, without []string) error {
	cfg, err := model.Preset("ling-tiny")
	if err != nil {
		return err
	}
	params := make([]float32, cfg.Size())
	engine.InitParams(cfg, number, params)
	var tensors []store.Tensor
	for _, t := range cfg.Tensors() {
		if !strings.Contains(strings.Join(without, " "), t.Name) {
			tensors = append(tensors, store.Tensor{Name: t.Name, Shape: t.Shape, F32: params[t.Offset : t.Offset+t.Size()]})
		}
	}
	ctx := context.Background()
	st, err := store.OpenFolder(dir)
	if err != nil {
		return err
	}
	w, err := store.Begin(ctx, st, number)
	if err != nil {
		return err
	}
	if err := w.Tensors(ctx, serve.ModelPart, tensors, nil); err != nil {
		return err
	}
	_, err = w.Commit(ctx, checkpointMeta{Model: cfg, Tokens: 1000})
	return err
}

// flip turns one bit in the middle of a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(file)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(file, data, 0o644))
}

// spoil makes the last number of a file of fp32 weights a NaN.
func spoil(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(file)
	ts.Check(err)
	binary.LittleEndian.PutUint32(data[len(data)-4:], math.Float32bits(float32(math.NaN())))
	ts.Check(os.WriteFile(file, data, 0o644))
}

// fakeTrain plays a run as the variable FAKE says.
func fakeTrain(ctx context.Context, o serve.Options) (ledger.Summary, error) {
	s := ledger.New()
	emit := func(e ledger.Event) {
		s.Apply(e)
		o.Emit(e)
	}
	mode := os.Getenv("FAKE")
	if mode == "refuse" {
		return ledger.Summary{}, &fault.Input{Where: "text", Problem: "has 3 tokens, one sequence needs 129", Next: "give more text by --data"}
	}
	run := o.Run
	run.Out = ""
	if err := os.WriteFile(filepath.Join(o.Dir, runFileName), run.Marshal(), 0o644); err != nil {
		return ledger.Summary{}, err
	}
	begin(emit, o)
	end := ledger.RunEnded{At: at(90), Outcome: ledger.RunFinished}
	var err error
	switch mode {
	case "interrupt":
		end.Outcome = ledger.RunInterrupted
		err = errors.Join(interrupt(), serve.ErrInterrupted)
		<-o.Interrupt
	case "interrupt twice":
		end.Outcome = ledger.RunFailed
		err = interrupt()
		<-o.Interrupt
		err = errors.Join(err, interrupt())
		<-ctx.Done()
		err = errors.Join(err, ctx.Err())
	case "fail":
		end.Outcome, end.Reason = ledger.RunFailed, "no island is left"
		err = fmt.Errorf("%w: no island is left", serve.ErrRunFailed)
	default:
		emit(ledger.Evaluated{At: at(90), Tokens: int64(o.Run.Tokens), Loss: 2.5, Final: true})
	}
	emit(end)
	return s.Summary(), err
}

// interrupt does to this process what Ctrl-C does.
func interrupt() error {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	return self.Signal(os.Interrupt)
}

func at(seconds int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(seconds) * time.Second)
}

// begin plays what every run does.
func begin(emit func(ledger.Event), o serve.Options) {
	start := ledger.RunStarted{At: at(0), RunID: "4f1d", Dir: o.Dir, Era: 1, Tokens: int64(o.Run.Tokens), Params: 3_000_000,
		ActiveParams: 600_000, Resumed: o.Resume, BigramNats: 2.7, TrigramNats: 1.9}
	for _, i := range o.Run.Islands {
		start.Islands = append(start.Islands, i.Name)
	}
	emit(start)
	for n, i := range o.Run.Islands {
		emit(ledger.IslandStarted{At: at(0), Island: i.Name, Incarnation: uint64(n + 1)})
		emit(ledger.IslandReady{At: at(1), Island: i.Name, Incarnation: uint64(n + 1)})
		emit(ledger.StepDone{At: at(81), Island: i.Name, Incarnation: uint64(n + 1), Step: 100, Tokens: uint64(i.Pace * 200_000), Loss: 2.6, GradientNorm: 0.75, ExpertLoad: 1.25, StepSeconds: 0.8})
	}
	emit(ledger.Merged{At: at(81), Version: 1, Islands: start.Islands, Tokens: 1000, Share: 1})
	emit(ledger.Consumed{At: at(81), Tokens: int64(o.Run.Tokens)})
	emit(ledger.CheckpointSaved{At: at(82), Number: 1, Path: filepath.ToSlash(filepath.Join(o.Dir, "checkpoints", "00000001")), Tokens: int64(o.Run.Tokens)})
}
