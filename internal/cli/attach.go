package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/launch"
	"github.com/mistura-project/mistura/internal/runfile"
)

// socketVariable tells a trainer where this program listens.
const socketVariable = "MISTURA_SOCKET"

// trainerPatience is how long a trainer may take to end after its island has.
const trainerPatience = 10 * time.Second

// engineCommand is the program that trains for the engine: none for the native one, and
// for an external one that somebody else starts.
func engineCommand(engine string, command []string) ([]string, error) {
	switch {
	case engine == runfile.External:
		return command, nil
	case engine != runfile.Native:
		return nil, usage("--engine", engine, "is neither native nor external", "use one of them")
	case len(command) > 0:
		return nil, usage("command", command[0], "is for --engine external", "add it, or leave the command out")
	}
	return nil, nil
}

// runExternal runs an island whose trainer is a program of the user's: the command, or
// whoever comes to the socket.
func runExternal(ctx context.Context, env *Env, o island.Options, socket string, command []string) error {
	if socket == "" {
		dir, err := os.MkdirTemp("", "mistura-") // mode 0700
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		socket = filepath.Join(dir, "socket")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	crew, err := attach.Listen(attach.Options{Path: socket, Version: o.Version, Logger: o.Logger, Lost: cancel})
	if err != nil {
		return err
	}
	o.Crew = crew
	if len(command) == 0 {
		fmt.Fprintf(env.Stdout, "socket %s\n", socket)
		return island.Run(ctx, o)
	}
	t, err := launch.StartTrainer(command, []string{socketVariable + "=" + socket}, env.Stdout, env.Stderr)
	if err != nil {
		crew.Close()
		return usage("command", command[0], err.Error(), "give a program that is there, and its arguments")
	}
	defer t.Stop(trainerPatience)
	ended := make(chan struct{})
	go func() { // a trainer that ends before its ranks have come leaves nobody to wait for
		defer close(ended)
		select {
		case <-t.Done():
			if !crew.Here() {
				cancel(fmt.Errorf("%w: it ended before all its ranks had joined", attach.ErrLost))
			}
		case <-ctx.Done():
		}
	}()
	err = island.Run(ctx, o)
	cancel(nil)
	<-ended
	return outcomeOf(t, err)
}

// outcomeOf is how island and trainer ended together: the trainer's end explains why its
// ranks were lost, and what it does after the run is its own.
func outcomeOf(t *launch.Trainer, err error) error {
	if err == nil {
		<-t.Done()
		return t.Err()
	}
	if !errors.Is(err, attach.ErrLost) {
		return err
	}
	select {
	case <-t.Done():
		if t.Err() != nil {
			return fmt.Errorf("%w; %w", err, t.Err())
		}
	case <-time.After(trainerPatience / 10):
	}
	return err
}
