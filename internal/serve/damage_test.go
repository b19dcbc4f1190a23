package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/store"
)

// twice saved is an interrupted run with two whole checkpoints or more.
func twiceSaved(t testing.TB) (string, runfile.Run) {
	t.Helper()
	run := alone(t, func(run *runfile.Run) { run.Checkpoint.EveryTokens, run.Checkpoint.Keep = stepTokens*30, 3 })
	dir := folder(t)
	c := begin(t, dir, run, false, func(c *trial, e ledger.Event) {
		if _, ok := e.(ledger.CheckpointSaved); ok {
			c.interruptNow() // however long that took: another one follows
		}
	})
	if _, err := c.wait(); !errors.Is(err, serve.ErrInterrupted) {
		t.Fatal(err)
	}
	if n := len(recorded[ledger.CheckpointSaved](c)); n < 2 {
		t.Fatalf("%d checkpoints", n)
	}
	return dir, run
}

// newest is the folder of the newest checkpoint that can be seen, and its number.
func newest(t testing.TB, dir string) (string, uint64) {
	t.Helper()
	c := newestCheckpoint(t, dir)
	return filepath.Join(dir, filepath.FromSlash(store.PartName(c.Number(), ""))), c.Number()
}

func newestCheckpoint(t testing.TB, dir string) store.Checkpoint {
	t.Helper()
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := store.Newest(context.Background(), st)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Damage to a saved run gets a message that names the file, and nothing is computed
// from it. (D7, D12, and the "Bad input gets".)
func TestDamagedRunIsNotResumed(t *testing.T) {
	t.Parallel()
	base, run := twiceSaved(t)
	for name, damage := range map[string]struct {
		do      func(t testing.TB, dir string)
		problem string
	}{
		"wrong digest of the model": {
			func(t testing.TB, dir string) { flip(t, part(t, dir, "model.safetensors")) }, "model.safetensors",
		},
		"wrong digest of an island": {
			func(t testing.TB, dir string) { flip(t, part(t, dir, "islands/only.safetensors")) }, "islands/only.safetensors",
		},
		"tensor missing (D12)": {
			func(t testing.TB, dir string) { leaveOut(t, dir, run, "head") }, "head",
		},
		"tape cut short": {
			func(t testing.TB, dir string) {
				name := lastSegment(t, dir, "group-0")
				if err := os.Truncate(name, 40); err != nil {
					t.Fatal(err)
				}
			}, "group-0",
		},
		"hole in the tape": {
			func(t testing.TB, dir string) {
				names, _ := filepath.Glob(filepath.Join(dir, "tape/era-0001/coord/*"))
				if err := os.Remove(names[2]); err != nil {
					t.Fatal(err)
				}
			}, "coord",
		},
		"no checkpoint (D7)": {
			func(t testing.TB, dir string) {
				if err := os.RemoveAll(filepath.Join(dir, "checkpoints")); err != nil {
					t.Fatal(err)
				}
			}, "nothing to load",
		},
		"text gone": {
			func(t testing.TB, dir string) {
				if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
					t.Fatal(err)
				}
			}, "data",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := clone(t, base)
			damage.do(t, dir)
			c := begin(t, dir, run, true, nil)
			_, err := c.wait()
			refused(t, err, damage.problem, "")
			if started := recorded[ledger.IslandStarted](c); len(started) > 0 {
				t.Errorf("it trained before it looked: %v", started)
			}
			if eras, _ := filepath.Glob(filepath.Join(dir, "tape/era-0002/*")); len(eras) > 0 {
				t.Errorf("a new era was begun: %v", eras)
			}
		})
	}
}

// D1 (CASES: step 200 complete, step 300 cut off by a kill): here the newest checkpoint
// is cut short, lacks a file or its manifest; the run goes on from the one before,
// says so, and saves under a number of its own.
func TestD1NewestCheckpointIsNotWhole(t *testing.T) {
	t.Parallel()
	base, run := twiceSaved(t)
	for name, damage := range map[string]func(t testing.TB, dir string){
		"cut short": func(t testing.TB, dir string) {
			if err := os.Truncate(part(t, dir, "model.safetensors"), 0); err != nil {
				t.Fatal(err)
			}
		},
		"file missing": func(t testing.TB, dir string) {
			if err := os.Remove(part(t, dir, "momentum.safetensors")); err != nil {
				t.Fatal(err)
			}
		},
		"never ended": func(t testing.TB, dir string) {
			if err := os.Remove(part(t, dir, "manifest.json")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := clone(t, base)
			_, number := newest(t, dir)
			damage(t, dir)
			_, before := newest(t, dir)
			if before >= number {
				t.Fatal("the damage does not show")
			}
			c := begin(t, dir, run, true, nil)
			c.finish()
			told := false
			for _, n := range recorded[ledger.Note](c) {
				told = told || strings.Contains(n.Text, "not used")
			}
			if !told {
				t.Error("the incomplete checkpoint is not reported")
			}
			if _, last := newest(t, dir); last <= number {
				t.Errorf("the run saved as number %d, %d was there", last, number)
			}
		})
	}
}

// The settings that a checkpoint depends on cannot change under it.
func TestResumeWithAnotherModel(t *testing.T) {
	t.Parallel()
	base, run := twiceSaved(t)
	for name, change := range map[string]func(*runfile.Run){
		"model":     func(r *runfile.Run) { r.Model.RopeTheta *= 2 },
		"fragments": func(r *runfile.Run) { r.Exchange.Fragments = 3 },
		"a step":    func(r *runfile.Run) { r.Train.BatchSequences *= 2 },
	} {
		t.Run(name, func(t *testing.T) {
			other := run
			change(&other)
			_, err := begin(t, clone(t, base), other, true, nil).wait()
			refused(t, err, name, "restore run.yaml")
		})
	}
}

func clone(t testing.TB, dir string) string {
	t.Helper()
	to := folder(t)
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func part(t testing.TB, dir, name string) string {
	t.Helper()
	checkpoint, _ := newest(t, dir)
	return filepath.Join(checkpoint, filepath.FromSlash(name))
}

// flip changes one bit in the middle of a file.
func flip(t testing.TB, name string) {
	t.Helper()
	data := []byte(read(t, name))
	data[len(data)/2] ^= 1
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func lastSegment(t testing.TB, dir, writer string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "tape/era-0001", writer, "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no tape: %v", err)
	}
	return names[len(names)-1]
}

// leaveOut saves the newest checkpoint again, whole by its manifest, with one tensor
// of the model left out.
func leaveOut(t testing.TB, dir string, run runfile.Run, tensor string) {
	t.Helper()
	ctx := context.Background()
	from := newestCheckpoint(t, dir)
	st, err := store.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var meta json.RawMessage
	if err := from.Meta(&meta); err != nil {
		t.Fatal(err)
	}
	flat := saved(t, dir, "model.safetensors", run)
	var tensors []store.Tensor
	for _, m := range run.Model.Config.Tensors() {
		if m.Name != tensor {
			tensors = append(tensors, store.Tensor{Name: m.Name, Shape: m.Shape, F32: flat[m.Offset : m.Offset+m.Size()]})
		}
	}
	if len(tensors) == len(run.Model.Config.Tensors()) {
		t.Fatalf("the model has no tensor %q", tensor)
	}
	_, err = store.Save(ctx, st, from.Number()+1, func(ctx context.Context, w *store.Writer) (any, error) {
		errs := []error{w.Tensors(ctx, "model.safetensors", tensors, nil)}
		for _, p := range from.Parts() {
			if p.Name == "model.safetensors" {
				continue
			}
			f, size, err := from.Open(ctx, p.Name)
			if err != nil {
				return nil, err
			}
			data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
			o, putErr := st.Put(ctx, store.PartName(from.Number()+1, p.Name), func(w io.Writer) error {
				_, err := io.Copy(w, bytes.NewReader(data))
				return err
			})
			errs = append(errs, err, putErr, f.Close(), w.Existing(ctx, p.Name, o.Size, o.SHA256))
		}
		return meta, errors.Join(errs...)
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}
