package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/store"
)

// cast is the processes of one run.
type cast struct {
	binary string
	dir    string // the run folder
	ended  chan error
}

// patience bounds what a run has to do before its islands train.
const patience = 2 * time.Minute

// perform serves the run file until the run is over, with islands that join from the
// last name to the first, each once the one before has made a step. It gives the run's
// summary.
func (c *cast) perform(file string, names []string) ([]byte, error) {
	var out, said bytes.Buffer
	coordinator := exec.Command(c.binary, "serve", file, "--listen", "127.0.0.1:0", "--out", c.dir, "--json")
	coordinator.Stdout, coordinator.Stderr = &out, &said
	if err := coordinator.Start(); err != nil {
		return nil, err
	}
	c.ended = make(chan error, 1)
	go func() { c.ended <- coordinator.Wait() }()
	defer coordinator.Process.Kill()
	join, err := c.await(func() (string, bool) {
		got, err := exec.Command(c.binary, "token", c.dir).Output()
		return strings.TrimSpace(string(got)), err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("serve: %w\n%s", err, said.String())
	}
	for i := len(names) - 1; i >= 0; i-- {
		island, err := c.join(join, names[i])
		if err != nil {
			return nil, err
		}
		defer island.Wait()
		defer island.Process.Kill() // it has gone by itself, unless an error ends all
		if _, err := c.await(func() (string, bool) { return "", c.steps(names[i]) > 0 }); err != nil {
			return nil, fmt.Errorf("island %s: %w\n%s", names[i], err, island.Stderr)
		}
	}
	if err := <-c.ended; err != nil {
		return nil, fmt.Errorf("serve: %w\n%s", err, said.String())
	}
	return out.Bytes(), nil
}

// join starts an island; the first part of its name is its engine.
func (c *cast) join(join, name string) (*exec.Cmd, error) {
	engine, _, _ := strings.Cut(name, "-")
	args := []string{"join", "--name", name, "--engine", engine}
	if engine == "torch" {
		args = append(args, "--threads", "1") // as a native island has, of two cores
	}
	island := exec.Command(c.binary, args...)
	island.Env, island.Stderr = append(os.Environ(), "MISTURA_JOIN="+join), &bytes.Buffer{}
	return island, island.Start()
}

// steps is how many steps an island has made, as "mistura status" says.
func (c *cast) steps(name string) int64 {
	got, err := exec.Command(c.binary, "status", c.dir, "--json").Output()
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

// await asks until there is an answer, and no longer than the run lasts.
func (c *cast) await(ask func() (string, bool)) (string, error) {
	late := time.After(patience)
	for {
		if answer, ok := ask(); ok {
			return answer, nil
		}
		select {
		case err := <-c.ended:
			return "", fmt.Errorf("the run ended before it was there (%v)", err)
		case <-late:
			return "", fmt.Errorf("nothing after %s", patience)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// alone is the share of a run's tokens that were merged with no other island's.
func (c *cast) alone() (float64, error) {
	folder, err := store.OpenFolder(c.dir)
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
