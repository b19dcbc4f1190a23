package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/audit"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/store"
)

// limit bounds one call of the program, on a machine that is busy with others; the longest
// takes some ten seconds.
const limit = 3 * time.Minute

// TestEndToEnd is what a newcomer does, with the program as it is built: the built-in
// run on the Go source tree, made short.
func TestEndToEnd(t *testing.T) {
	needProcesses(t)
	bin := build(t)
	t.Run("bad input", func(t *testing.T) { badInput(t, bin) })
	t.Run("join string as argument", func(t *testing.T) { secretHidden(t, bin) })
	t.Run("terminal closed", func(t *testing.T) { hungUp(t, bin) })
	t.Run("island killed", func(t *testing.T) { islandKilled(t, bin) })
	t.Run("interrupted, parent killed, resumed", func(t *testing.T) { resumed(t, bin) })
	t.Run("planned and trained", func(t *testing.T) { planned(t, bin) })
}

// badInput is refused within a second, on one line, and leaves nothing behind.
func badInput(t *testing.T, bin string) {
	for _, args := range []string{
		"train --data none.txt", "train --data empty", "train --tokens 4x", "train --islands 0", "train none.yaml",
		"train --resume empty", "sample --from empty --prompt x", "trane",
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
			t.Fatal(err)
		}
		quickest := limit
		for range 3 { // a busy machine may hold one of them up
			began := time.Now()
			p := start(t, bin, dir, strings.Fields(args)...)
			if code := p.wait(); code != 2 {
				t.Errorf("%s: exit code %d\n%s", args, code, p.shown())
			}
			quickest = min(quickest, time.Since(began))
			if len(p.said) != 1 || !strings.HasPrefix(p.said[0], "mistura: ") || p.stdout.Len() > 0 {
				t.Errorf("%s: wants one line on stderr\n%s", args, p.shown())
			}
			if quickest < time.Second {
				break
			}
		}
		if quickest >= time.Second {
			t.Errorf("%s: refused after %v", args, quickest)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*", "*")); err != nil || len(left) > 0 {
			t.Errorf("%s: leaves %q behind, %v", args, left, err)
		}
	}
}

// secretHidden: the process that goes on with a join string which was pasted as argument does
// not have it on its command line, where everybody on the host reads it.
func secretHidden(t *testing.T, bin string) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes the island in and says nothing, so that it waits
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	silent.(*net.TCPListener).SetDeadline(time.Now().Add(limit)) //nolint:errcheck // it cannot fail before it is closed
	join := "mistura://" + silent.Addr().String() + "/r?token=hush"
	p := start(t, bin, t.TempDir(), "join", join, "--name", "x")
	in, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	proc := filepath.Join("/proc", strconv.Itoa(p.pid()))
	command, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	variables, err2 := os.ReadFile(filepath.Join(proc, "environ"))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(command, []byte("hush")) || !bytes.HasSuffix(command, []byte("\x00join\x00--name\x00x\x00")) {
		t.Errorf("its command line is %q", command)
	}
	if !bytes.Contains(variables, []byte("\x00MISTURA_JOIN="+join+"\x00")) {
		t.Error("the join string is not in its environment")
	}
	p.signal(os.Kill)
	p.wait()
}

// islandKilled: a run whose island is killed in the middle trains every token, and its
// model samples.
func islandKilled(t *testing.T, bin string) {
	dir := t.TempDir()
	p := start(t, bin, dir, "train", "--tokens", "40k", "--json", "--out", "run")
	p.until("validation loss")
	p.until("validation loss")
	islands := children(t, p.pid())
	if len(islands) != 2 {
		t.Fatalf("%d islands run, want 2\n%s", len(islands), p.shown())
	}
	islands[0].kill()
	if code := p.wait(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.shown())
	}
	sum := p.summary()
	valid, _ := sum.ValidLoss.Get()
	train, _ := sum.TrainLoss.Get()
	if valid <= 0 || valid > 4 || train <= 0 || train > 4.5 || sum.Seconds <= 0 || sum.Merges == 0 || sum.Checkpoint == nil {
		t.Errorf("nothing was learned: %+v", sum)
	}
	if sum.Outcome != ledger.RunFinished || sum.Tokens < 40_000 || sum.Tokens != sum.GoalTokens || !sum.ValidFinal {
		t.Errorf("the run is not whole: %+v", sum)
	}
	restarts := 0
	for _, i := range sum.Islands {
		restarts += i.Restarts
		_, speed := i.TokensPerSecond.Get()
		_, norm := i.GradientNorm.Get()
		_, load := i.ExpertLoad.Get()
		if i.Tokens == 0 || i.Steps == 0 || !speed || !norm || !load {
			t.Errorf("island not known to have trained: %+v", i)
		}
	}
	if len(sum.Islands) != 2 || restarts != 1 {
		t.Errorf("%d islands, %d restarts", len(sum.Islands), restarts)
	}
	audited(t, filepath.Join(dir, "run"))

	if again := start(t, bin, dir, "train", "--out", "run"); again.wait() != 2 || !strings.Contains(again.shown(), "already holds a run") {
		t.Errorf("a second run in the folder of the first\n%s", again.shown())
	}
	s := start(t, bin, dir, "sample", "--from", "run", "--prompt", "func ", "--tokens", "30")
	if code := s.wait(); code != 0 || s.stdout.Len() <= len("func ") {
		t.Errorf("sample: exit code %d\n%s", code, s.shown())
	}
}

// hungUp: a terminal that closes while the text is read interrupts like Ctrl-C.
func hungUp(t *testing.T, bin string) {
	// Whoever runs the tests may ignore hang-ups (nohup), and a child inherits that; a
	// signal that is caught here is back to its default there.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	p := start(t, bin, t.TempDir(), "train", "--tokens", "40k", "--json")
	p.until("reading the text")
	p.signal(syscall.SIGHUP)
	if code := p.wait(); code != 130 {
		t.Errorf("exit code %d\n%s", code, p.shown())
	}
}

// resumed: an interrupt saves and says how to go on; when the parent is killed its
// islands end by themselves; what is left can be resumed to the end.
func resumed(t *testing.T, bin string) {
	dir := t.TempDir()
	p := start(t, bin, dir, "train", "--tokens", "20k", "--json", "--out", "run")
	p.until("validation loss")
	p.signal(os.Interrupt)
	if code := p.wait(); code != 130 {
		t.Fatalf("interrupted: exit code %d\n%s", code, p.shown())
	}
	sum := p.summary()
	if sum.Outcome != ledger.RunInterrupted || sum.Tokens >= sum.GoalTokens || sum.Checkpoint == nil || sum.ValidFinal {
		t.Errorf("interrupted: %+v", sum)
	}
	if !strings.Contains(p.shown(), "train --resume run") || strings.Contains(p.shown(), "final validation") {
		t.Errorf("does not say how to go on, or calls something final:\n%s", p.shown())
	}

	p = start(t, bin, dir, "train", "--resume", "run", "--json")
	p.until("validation loss")
	islands := children(t, p.pid())
	if err := p.cmd.Process.Kill(); err != nil || len(islands) != 2 {
		t.Fatalf("%d islands, %v\n%s", len(islands), err, p.shown())
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, i := range islands {
		if !i.ended(deadline) {
			t.Errorf("island with pid %d outlives its parent by 10 s", i.pid)
		}
	}
	p.wait()

	p = start(t, bin, dir, "train", "--resume", "run", "--json")
	if code := p.wait(); code != 0 {
		t.Fatalf("resumed: exit code %d\n%s", code, p.shown())
	}
	if sum := p.summary(); sum.Outcome != ledger.RunFinished || sum.Tokens != sum.GoalTokens || sum.Era != 3 {
		t.Errorf("resumed: %+v", sum)
	}
	audited(t, filepath.Join(dir, "run"))
}

// build builds the program and returns its path.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "mistura")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return bin
}

// program is one call of the program under way.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string // of stderr; closed at its end
	said   []string    // of them, those that were read
	stdout bytes.Buffer
}

// start calls the program in a folder.
func start(t *testing.T, bin, dir string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	p := &program{t: t, cmd: exec.CommandContext(ctx, bin, args...), lines: make(chan string, 1000)}
	p.cmd.Dir, p.cmd.Stdout = dir, &p.stdout
	stderr, err := p.cmd.StderrPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p
}

func (p *program) pid() int { return p.cmd.Process.Pid }

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// until waits for a line of stderr with the text: a run with --json writes there what
// happens.
func (p *program) until(text string) {
	p.t.Helper()
	for line := range p.lines {
		p.said = append(p.said, line)
		if strings.Contains(line, text) {
			return
		}
	}
	p.cmd.Wait() //nolint:errcheck // it failed already
	p.t.Fatalf("ended without %q\n%s", text, p.shown())
}

// wait waits for the end and gives the exit code.
func (p *program) wait() int {
	p.t.Helper()
	for line := range p.lines {
		p.said = append(p.said, line)
	}
	err := p.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("%v\n%s", err, p.shown())
	}
	return p.cmd.ProcessState.ExitCode()
}

// shown is what a person has seen.
func (p *program) shown() string {
	return fmt.Sprintf("%s\nstderr:\n%s\nstdout:\n%s", p.cmd, strings.Join(p.said, "\n"), &p.stdout)
}

// summary reads the object on the last line of stdout; every key that the issue
// promises is there.
func (p *program) summary() ledger.Summary {
	p.t.Helper()
	lines := strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
	last := []byte(lines[len(lines)-1])
	var keys map[string]json.RawMessage
	var sum ledger.Summary
	if err := errors.Join(json.Unmarshal(last, &keys), json.Unmarshal(last, &sum)); err != nil {
		p.t.Fatalf("summary: %v\n%s", err, p.shown())
	}
	p.needKeys(keys, "tokens", "seconds", "valid_loss", "train_loss", "merges", "checkpoint", "islands")
	var islands []map[string]json.RawMessage
	if err := json.Unmarshal(keys["islands"], &islands); err != nil {
		p.t.Fatal(err)
	}
	for _, i := range islands {
		p.needKeys(i, "name", "tokens", "steps", "tokens_per_second", "restarts", "gradient_norm", "expert_load")
	}
	return sum
}

// needKeys demands keys; null is the value of what is unknown.
func (p *program) needKeys(object map[string]json.RawMessage, keys ...string) {
	p.t.Helper()
	for _, k := range keys {
		if len(object[k]) == 0 {
			p.t.Errorf("summary: no %s", k)
		}
	}
}

// audited finds every sample of a finished run on its tapes, each counted once.
func audited(t *testing.T, dir string) {
	t.Helper()
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	eras, err := filepath.Glob(filepath.Join(dir, "tape", "era-*"))
	if err != nil || len(eras) == 0 {
		t.Fatalf("no tape in %s, %v", dir, err)
	}
	slices.Sort(eras)
	var tapes []audit.Era
	for _, era := range eras {
		tapes = append(tapes, audit.Era{
			Coordinator: records(t, st, filepath.Base(era), "coord"),
			Group:       records(t, st, filepath.Base(era), "group-0"),
		})
	}
	report, err := audit.Run(tapes)
	if err != nil || len(report.Problems) > 0 || report.Holding != 0 || report.Returned != 0 || report.Consumed != report.Leased {
		t.Errorf("tape: %+v, %v", report, err)
	}
}

func records(t *testing.T, st store.Store, era, writer string) []json.RawMessage {
	t.Helper()
	segments, err := store.ReadSequence(context.Background(), st, "tape/"+era+"/"+writer)
	if err != nil {
		t.Fatal(err)
	}
	var out []json.RawMessage
	for _, s := range segments {
		out = append(out, s.Records...)
	}
	return out
}
