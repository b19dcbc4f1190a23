package serve_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/wire"
)

// First arguments that make this test binary act as another process.
const (
	islandArgument = "act-as-island" // with a folder in which it leaves a life, and what to fake
	parentArgument = "act-as-parent" // with a JSON parentOrder
)

// everyone as the process to fake: all of them are real, and spoil what is said.
const everyone = "*"

// islandArguments start an island process. Fake is ISLAND-INCARNATION=ACT for a process
// that is none (fake_test.go), or empty.
func islandArguments(lives, fake string) []string {
	return []string{os.Args[0], islandArgument, lives, fake}
}

func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 2 && os.Args[1] == parentArgument:
		err = actAsParent(os.Args[2])
	case len(os.Args) > 3 && os.Args[1] == islandArgument:
		err = actAsIsland(os.Args[2], os.Args[3])
	default:
		if err = manyAtOnce(); err == nil {
			goleak.VerifyTestMain(m)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// manyAtOnce has more tests at a time than there are cores, unless somebody has said how many: a
// run waits most of the time, for processes, the disk and what is set to come late.
func manyAtOnce() error {
	const name = "test.parallel"
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == name })
	if said {
		return nil
	}
	return flag.Set(name, strconv.Itoa(2*runtime.GOMAXPROCS(0)))
}

// life is what an island process leaves behind for the test: the file holds it,
// and is locked for as long as the process lives.
type life struct {
	PID  int
	Join string
}

func lifeFile(dir, island string, incarnation uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%d", island, incarnation))
}

func actAsIsland(lives, fake string) error {
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadString('\n')
	if err != nil {
		return err
	}
	join, err := wire.ParseJoin(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	alive, err := leaveLife(lifeFile(lives, join.Island, join.Incarnation), join)
	if err != nil {
		return err
	}
	defer alive.Close()
	var spoil func([]uint64, []float32)
	var faults island.GateFaults
	switch who, act, _ := strings.Cut(fake, "="); {
	case who == everyone && strings.HasPrefix(act, actGate):
		faults = gateFault(strings.TrimPrefix(act, actGate))
	case who == everyone:
		if spoil, err = spoilOf(act); err != nil {
			return err
		}
	case who != fmt.Sprintf("%s-%d", join.Island, join.Incarnation):
	case act == actFragile:
		if join.Address, err = fragileWay(join.Address); err != nil {
			return err
		}
	case strings.HasPrefix(act, actSpoil):
		if join.Address, err = spoilingWay(join.Address, strings.TrimPrefix(act, actSpoil)); err != nil {
			return err
		}
	case strings.HasPrefix(act, actDie):
		if spoil, err = deathAt(act); err != nil {
			return err
		}
	case strings.HasPrefix(act, actHosts):
		if join.Address, err = spreadOut(join, act); err != nil {
			return err
		}
	default:
		return actAsFake(join, act)
	}
	leave := make(chan struct{})
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		close(leave)
	}()
	o := island.Options{
		Join: join, Version: "test", Leave: leave, ParentStdin: stdin,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Spoil: spoil, SpoilGate: faults,
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if args := os.Args[4:]; len(args) == 4 { // --engine external --socket PATH
		if o.Crew, err = attach.Listen(attach.Options{Path: args[3], Version: "test", Logger: o.Logger, Lost: cancel}); err != nil {
			return err
		}
	}
	return island.Run(ctx, o)
}

// spoilOf reads FROM-TO: a step with one of these samples has a gradient that is not finite.
func spoilOf(act string) (func([]uint64, []float32), error) {
	var from, to uint64
	if _, err := fmt.Sscanf(act, "%d-%d", &from, &to); err != nil {
		return nil, err
	}
	return func(samples []uint64, grads []float32) {
		for _, s := range samples {
			if from <= s && s < to {
				grads[len(grads)/2] = float32(math.NaN())
			}
		}
	}, nil
}

// deathAt reads die-SAMPLE.
func deathAt(act string) (func([]uint64, []float32), error) {
	at, err := strconv.ParseUint(strings.TrimPrefix(act, actDie), 10, 64)
	return func(samples []uint64, _ []float32) {
		if slices.Contains(samples, at) {
			unix.Kill(os.Getpid(), unix.SIGKILL) //nolint:errcheck // the test sees that it lives on
		}
	}, err
}

func leaveLife(name string, join wire.Join) (*os.File, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	return f, json.NewEncoder(f).Encode(life{os.Getpid(), join.String()})
}

// parentOrder is a run for a process of its own.
type parentOrder struct {
	Dir   string
	Lives string
	Run   string // run file
}

// actAsParent trains and tells each event as a line of JSON: its kind and, for a
// step, the island and its number.
func actAsParent(order string) error {
	var o parentOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return err
	}
	run, err := runfile.Parse("order", []byte(o.Run))
	if err == nil {
		run, err = run.Resolve()
	}
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	_, err = serve.Train(context.Background(), serve.Options{
		Run: run, Dir: o.Dir, StartIsland: islandArguments(o.Lives, ""),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Emit: func(e ledger.Event) {
			told := parentEvent{Kind: fmt.Sprintf("%T", e)}
			switch e := e.(type) {
			case ledger.StepDone:
				told.Island, told.Step, told.Incarnation = e.Island, e.Step, e.Incarnation
			case ledger.IslandReady:
				told.Island, told.Incarnation = e.Island, e.Incarnation
			case ledger.CheckpointSaved:
				told.Step = e.Number
			}
			out.Encode(told) //nolint:errcheck // the test has gone
		},
	})
	return err
}

type parentEvent struct {
	Kind, Island string
	Step         uint64
	Incarnation  uint64
}
