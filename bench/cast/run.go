package cast

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/store"
)

// Run is a coordinator and the islands that join it.
type Run struct {
	binary string
	dir    string // the run folder
	join   string // string
	out    bytes.Buffer
	said   bytes.Buffer
	stop   func() error
	ended  chan error
	joined []*exec.Cmd
}

// patience bounds what is waited for, such as a first step.
const patience = 2 * time.Minute

// Build makes the mistura binary in dir; the working folder is the repository's root.
func Build(dir string) (string, error) {
	binary := filepath.Join(dir, "mistura")
	if out, err := exec.Command("go", "build", "-o", binary, "./cmd/mistura").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building mistura, in the root of the repository: %w\n%s", err, out)
	}
	return binary, nil
}

// Serve starts a run of the run file in the folder dir. The caller must Stop it.
func Serve(binary, file, dir string) (*Run, error) {
	r := &Run{binary: binary, dir: dir, ended: make(chan error, 1)}
	coordinator := exec.Command(binary, "serve", file, "--listen", "127.0.0.1:0", "--out", dir, "--json")
	coordinator.Stdout, coordinator.Stderr = &r.out, &r.said
	if err := coordinator.Start(); err != nil {
		return nil, err
	}
	r.stop = coordinator.Process.Kill
	go func() { r.ended <- coordinator.Wait() }()
	err := r.Await(func() bool {
		got, err := exec.Command(binary, "token", dir).Output()
		r.join = strings.TrimSpace(string(got))
		return err == nil
	})
	if err != nil {
		r.Stop()
		return nil, fmt.Errorf("serve: %w\n%s", err, r.said.String())
	}
	return r, nil
}

// Join starts an island; the first part of its name is its engine.
func (r *Run) Join(name string, flags ...string) (*exec.Cmd, error) {
	engine, _, _ := strings.Cut(name, "-")
	args := append([]string{"join", "--name", name, "--engine", engine}, flags...)
	if engine == "torch" {
		args = append(args, "--threads", "1") // as a native island has, of two cores
	}
	island := exec.Command(r.binary, args...)
	island.Env, island.Stderr = append(os.Environ(), "MISTURA_JOIN="+r.join), &bytes.Buffer{}
	r.joined = append(r.joined, island)
	return island, island.Start()
}

// AwaitStep waits for an island's first step.
func (r *Run) AwaitStep(island *exec.Cmd, name string) error {
	if err := r.Await(func() bool { return r.steps(name) > 0 }); err != nil {
		return fmt.Errorf("island %s: %w\n%s", name, err, island.Stderr)
	}
	return nil
}

// End waits for the end of the run and gives its summary.
func (r *Run) End() ([]byte, error) {
	if err := <-r.ended; err != nil {
		return nil, fmt.Errorf("serve: %w\n%s", err, r.said.String())
	}
	return r.out.Bytes(), nil
}

// Stop ends every process that has not ended by itself.
func (r *Run) Stop() {
	for _, island := range r.joined {
		island.Process.Kill() //nolint:errcheck // it may have gone
		island.Wait()         //nolint:errcheck // what it had to say is in the summary
	}
	r.stop() //nolint:errcheck // the same
}

// steps is how many steps an island has made, as "mistura status" says.
func (r *Run) steps(name string) int64 {
	got, err := exec.Command(r.binary, "status", r.dir, "--json").Output()
	if err != nil {
		return 0
	}
	var fleet struct {
		Islands []struct {
			Name  string `json:"name"`
			Steps int64  `json:"steps"`
		} `json:"islands"`
	}
	if json.Unmarshal(got, &fleet) != nil {
		return 0
	}
	for _, i := range fleet.Islands {
		if i.Name == name {
			return i.Steps
		}
	}
	return 0
}

// Await asks until the answer is yes, and no longer than the run lasts.
func (r *Run) Await(ask func() bool) error {
	late := time.After(patience)
	for !ask() {
		select {
		case err := <-r.ended:
			return fmt.Errorf("the run ended before it was there (%v)", err)
		case <-late:
			return fmt.Errorf("nothing after %s", patience)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// Alone is the share of a run's tokens that were merged with no other island's.
func (r *Run) Alone() (float64, error) {
	folder, err := store.OpenFolder(r.dir)
	if err != nil {
		return 0, err
	}
	alone, all := 0.0, 0.0
	for segment, err := range store.Scan(context.Background(), folder, "tape/era-0001/group-0") {
		if err != nil {
			return 0, err
		}
		for _, text := range segment.Records {
			var merge struct {
				Kind  string
				Parts []struct{ Tokens float64 }
			}
			if err := json.Unmarshal(text, &merge); err != nil {
				return 0, err
			}
			if merge.Kind != "merge" {
				continue
			}
			for _, p := range merge.Parts {
				all += p.Tokens
				if len(merge.Parts) == 1 {
					alone += p.Tokens
				}
			}
		}
	}
	return alone / all, nil
}
