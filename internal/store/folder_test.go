package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/store"
)

// The tests of this file run parts of themselves as other processes; helperEnv
// names the part and helperDir the folder.
const (
	helperEnv = "MISTURA_STORE_TEST_HELPER"
	helperDir = "MISTURA_STORE_TEST_DIR"
)

func TestMain(m *testing.M) {
	helper := os.Getenv(helperEnv)
	if helper == "" {
		os.Exit(m.Run())
	}
	st, err := store.OpenFolder(os.Getenv(helperDir))
	if err == nil {
		err = map[string]func(*store.Folder) error{
			"churn": helperChurn, "hang": helperHang, "race": helperRace, "claim": helperClaim,
		}[helper](st)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// helper starts another process on a folder and gives its output, line by line.
func helper(t *testing.T, part, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+part, helperDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // killed: the status says so
}

// helperChurn creates and replaces objects without end.
func helperChurn(st *store.Folder) error {
	ctx := context.Background()
	for n := 0; ; n++ {
		if err := st.Create(ctx, fmt.Sprintf("tape/%d", n), churnContent(n)); err != nil {
			return err
		}
		if _, err := st.Put(ctx, "state/now", writing(churnContent(n))); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// churnContent can be told whole from its first byte on.
func churnContent(n int) []byte {
	return []byte(strings.Repeat(string(rune('a'+n%26)), 100_000+n))
}

func writing(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// Killed at whatever point, what has a name is whole, and everything that was
// acknowledged is there.
func TestFolderKilled(t *testing.T) {
	for _, lines := range []int{1, 4, 9} {
		dir := t.TempDir()
		cmd, out := helper(t, "churn", dir)
		for range lines {
			if !out.Scan() {
				t.Fatal("the other process ended by itself")
			}
		}
		kill(t, cmd)
		st := openFolder(t, dir)
		objects, err := st.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if len(objects) < lines+1 {
			t.Errorf("%d objects, want at least %d", len(objects), lines+1)
		}
		for _, object := range objects {
			data, err := store.Get(t.Context(), st, object.Name, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(data) - 100_000; n < 0 || string(data) != string(churnContent(n)) {
				t.Errorf("%s: %d bytes that were never written", object.Name, len(data))
			}
		}
		if _, err := st.Sweep(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		wantNoTemps(t, dir)
	}
}

// helperHang stops in the middle of a Put.
func helperHang(st *store.Folder) error {
	_, err := st.Put(context.Background(), "deep/folder/object", func(w io.Writer) error {
		if _, err := w.Write(churnContent(1_000_000)); err != nil {
			return err
		}
		fmt.Println("in the middle")
		_, err := io.Copy(io.Discard, os.Stdin) // until the test ends
		return err
	})
	return err
}

// A temporary file stays while its writer lives, and goes when it is dead.
func TestFolderSweep(t *testing.T) {
	dir := t.TempDir()
	cmd, out := helper(t, "hang", dir)
	if !out.Scan() {
		t.Fatal("the other process ended by itself")
	}
	st := openFolder(t, dir)
	if n, err := st.Sweep(t.Context(), ""); n != 0 || err != nil {
		t.Fatalf("swept %d files of a live process, %v", n, err)
	}
	if objects, err := st.List(t.Context(), ""); len(objects) != 0 || err != nil {
		t.Fatalf("a half-written object is listed: %v, %v", objects, err)
	}
	kill(t, cmd)
	if n, err := st.Sweep(t.Context(), "other/"); n != 0 || err != nil {
		t.Fatalf("swept %d files in a folder that is not there, %v", n, err)
	}
	if n, err := st.Sweep(t.Context(), "deep/"); n != 1 || err != nil {
		t.Fatalf("swept %d files of a dead process, want 1; %v", n, err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Fatalf("left over: %v, %v", entries, err)
	}
}

// helperRace creates objects that another process creates too.
func helperRace(st *store.Folder) error {
	for n := range raceNames {
		err := st.Create(context.Background(), fmt.Sprintf("race/%d", n), fmt.Appendf(nil, "%d", os.Getpid()))
		if err == nil {
			fmt.Println(n)
		} else if !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	return nil
}

const raceNames = 100

// Of two processes that create one name, exactly one is told that it did.
func TestFolderRaceOfProcesses(t *testing.T) {
	dir := t.TempDir()
	won := map[string]int{}
	var mu sync.Mutex
	var both sync.WaitGroup
	for range 2 {
		cmd, out := helper(t, "race", dir)
		both.Go(func() {
			for out.Scan() {
				mu.Lock()
				won[out.Text()] = cmd.Process.Pid
				mu.Unlock()
			}
		})
	}
	both.Wait()
	if len(won) != raceNames {
		t.Fatalf("%d names were won, want %d", len(won), raceNames)
	}
	st := openFolder(t, dir)
	for n, pid := range won {
		data, err := store.Get(t.Context(), st, "race/"+n, 100)
		if err != nil || string(data) != fmt.Sprint(pid) {
			t.Errorf("name %s was won by %d but holds %q, %v", n, pid, data, err)
		}
	}
}

// Sweeping and the clean-up of empty folders never disturb a writer.
func TestFolderSweepBesideWriters(t *testing.T) {
	st := openFolder(t, t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	var sweeper, writers sync.WaitGroup
	sweeper.Go(func() {
		for ctx.Err() == nil {
			// It may catch a file that is made but not locked yet; its writer
			// then makes another.
			if _, err := st.Sweep(ctx, ""); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
	for i := range 3 {
		writers.Go(func() {
			name := fmt.Sprintf("a/b/%d", i)
			for range 40 {
				if _, err := st.Put(t.Context(), name, writing([]byte("x"))); err != nil {
					t.Error(err)
				}
				if err := st.Delete(t.Context(), name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	stop()
	sweeper.Wait()
}

func TestOpenFolder(t *testing.T) {
	dir := t.TempDir()
	absent := filepath.Join(dir, "not", "yet")
	st := openFolder(t, absent)
	if objects, err := st.List(t.Context(), "checkpoints/"); len(objects) != 0 || err != nil {
		t.Errorf("an absent folder lists %v, %v", objects, err)
	}
	if _, known, err := st.FreeBytes(t.Context()); err != nil {
		t.Errorf("free bytes of an absent folder: known %v, %v", known, err)
	}
	if _, err := os.Stat(absent); !errors.Is(err, fs.ErrNotExist) {
		t.Error("reading made the folder")
	}
	if err := st.Create(t.Context(), "x", nil); err != nil {
		t.Error(err)
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var input *fault.Input
	if _, err := store.OpenFolder(file); !errors.As(err, &input) || !strings.Contains(err.Error(), file) {
		t.Errorf("a file in place of the folder gives %v", err)
	}
}

// People move checkpoints to another disk and put a link in their place.
func TestFolderFollowsLinks(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(dir, "checkpoints")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "circle")); err != nil {
		t.Fatal(err)
	}
	st := openFolder(t, dir)
	if err := st.Create(t.Context(), "checkpoints/1/x", []byte("data")); err != nil {
		t.Fatal(err)
	}
	objects, err := st.List(t.Context(), "checkpoints/")
	if err != nil || len(objects) != 1 || objects[0].Name != "checkpoints/1/x" {
		t.Errorf("list gave %v, %v", objects, err)
	}
}

func TestFolderNotWritable(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "probe"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var input *fault.Input
	if err := store.ProveExclusive(t.Context(), openFolder(t, dir)); !errors.As(err, &input) || input.Where != dir {
		t.Errorf("a folder that takes no objects gives %v", err)
	}
}

func wantNoTemps(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(path, ".tmp-") {
			t.Errorf("left over: %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a killed island left in an older checkpoint goes with that checkpoint.
func TestPruneSweeps(t *testing.T) {
	dir := t.TempDir()
	st := openFolder(t, dir)
	save(t, st, 1)
	save(t, st, 2)
	left := filepath.Join(dir, "checkpoints", "00000001", ".tmp-weights-0")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Prune(t.Context(), st, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(left)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder of checkpoint 1 is still there: %v", err)
	}
}
