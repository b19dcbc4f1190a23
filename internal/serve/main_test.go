package serve_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/wire"
)

// Variables that make this test binary act as another process.
const (
	islandVariable = "MISTURA_TEST_ISLAND" // as an island; set for every child
	parentVariable = "MISTURA_TEST_PARENT" // as the parent of a run: a JSON parentOrder
	livesVariable  = "MISTURA_TEST_LIVES"  // folder in which each island process leaves a life
	actVariable    = "MISTURA_TEST_ACT"    // ISLAND-INCARNATION=ACT: that process is a fake, see fake_test.go
)

func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(parentVariable) != "":
		err = actAsParent(os.Getenv(parentVariable))
	case os.Getenv(islandVariable) != "":
		err = actAsIsland()
	default:
		os.Setenv(islandVariable, "1") // for the children
		goleak.VerifyTestMain(m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
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

func actAsIsland() error {
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadString('\n')
	if err != nil {
		return err
	}
	join, err := wire.ParseJoin(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	if dir := os.Getenv(livesVariable); dir != "" {
		alive, err := leaveLife(lifeFile(dir, join.Island, join.Incarnation), join)
		if err != nil {
			return err
		}
		defer alive.Close()
	}
	if who, act, _ := strings.Cut(os.Getenv(actVariable), "="); who == fmt.Sprintf("%s-%d", join.Island, join.Incarnation) {
		return actAsFake(join, act)
	}
	leave := make(chan struct{})
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		close(leave)
	}()
	return island.Run(context.Background(), island.Options{
		Join: join, Version: "test", Leave: leave, ParentStdin: stdin,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
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
	Dir    string
	Run    string // run file
	Resume bool
}

// actAsParent trains and tells each event as a line of JSON: its kind and, for a
// step, the island and its number.
func actAsParent(order string) error {
	var o parentOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return err
	}
	os.Unsetenv(parentVariable)
	os.Setenv(islandVariable, "1")
	run, err := runfile.Parse("order", []byte(o.Run))
	if err == nil {
		run, err = run.Resolve()
	}
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	_, err = serve.Train(context.Background(), serve.Options{
		Run: run, Dir: o.Dir, Resume: o.Resume, StartIsland: []string{os.Args[0]},
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
