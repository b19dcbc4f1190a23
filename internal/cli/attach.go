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

// socketPatience is how long an island may take to leave the socket whose parent was
// killed: a run that is resumed at once uses the same one.
const socketPatience = 10 * time.Second

// trainer is the program that trains for an island.
type trainer struct {
	command   []string // none for the native engine, and for a program that somebody else starts
	variables []string
	describe  func(island.Options) (*attach.Run, error) // the run, for a program that asks before it joins
}

// trainerOf is the trainer of an engine. asked: who has started this process knows that
// PyTorch is there.
func trainerOf(engine string, command []string, torch *torchFlags, asked bool) (t trainer, err error) {
	switch {
	case engine == runfile.External:
		return trainer{command: command, describe: torch.describe}, nil
	case len(command) > 0:
		return t, usage("command", command[0], "is for --engine external", "add it, or leave the command out")
	case engine == runfile.Torch:
		return torch.trainer(asked)
	case engine != runfile.Native:
		return t, usage("--engine", engine, "is neither native, torch nor external", "use one of them")
	}
	return t, nil
}

// runExternal runs an island whose trainer is a program of the user's: the command, or
// whoever comes to the socket.
func runExternal(ctx context.Context, env *Env, o island.Options, socket string, train trainer) error {
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
	listen := attach.Options{Path: socket, Version: o.Version, Logger: o.Logger, Lost: cancel}
	if train.describe != nil {
		listen.Describe = func() (*attach.Run, error) { return train.describe(o) }
	}
	listen.Patience = socketPatience
	crew, err := attach.Listen(listen)
	if err != nil {
		return err
	}
	o.Crew = crew
	command := train.command
	if len(command) == 0 {
		fmt.Fprintf(env.Stdout, "socket %s\n", socket)
		return island.Run(ctx, o)
	}
	t, err := launch.StartTrainer(command, append(train.variables, socketVariable+"="+socket), env.Stdout, env.Stderr)
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
