package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/launch"
	"github.com/mistura-project/mistura/internal/runfile"
)

// socketVariable tells a trainer where this program listens.
const socketVariable = "MISTURA_SOCKET"

// socketName is that of a socket in a folder of its own.
const socketName = "socket"

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
func trainerOf(engine string, command []string, torch *torchFlags, asked bool, log *slog.Logger) (t trainer, err error) {
	switch {
	case engine == runfile.External:
		return trainer{command: command, describe: torch.describe}, nil
	case len(command) > 0:
		return t, usage("command", command[0], "is for --engine external", "add it, or leave the command out")
	case engine == runfile.Torch:
		return torch.trainer(asked, log)
	case engine != runfile.Native:
		return t, usage("--engine", engine, "is neither native, torch nor external", "use one of them")
	}
	return t, nil
}

// maxAgain bounds how often the run may ask a trainer to join again with less than
// settled between two times.
const maxAgain = 5

// settled is how long an island has to live before what ended it earlier counts no more.
const settled = 10 * time.Minute

// returnPatience is how long a trainer that was asked to join again may do neither that
// nor end, before it is started anew.
const returnPatience = time.Minute

// goodbye is how long after the run a trainer may go on with what is its own, an export
// say, and how soon that is said.
const (
	goodbye     = time.Hour
	goodbyeSaid = 10 * time.Second
)

// runExternal runs an island whose trainer is a program of the user's: the command, or
// whoever comes to the socket. An island that the run asks to join again, after a rollback
// say, waits for its trainer there, and starts a command anew that has ended of it.
func runExternal(ctx context.Context, env *Env, o island.Options, socket string, train trainer) error {
	if socket == "" {
		sweep(os.TempDir(), time.Now())
		dir, err := os.MkdirTemp("", "mistura-") // mode 0700
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		socket = filepath.Join(dir, socketName)
	}
	a := &attended{Options: o, env: env, socket: socket, trainer: train}
	defer a.stop()
	for times := 0; ; {
		began := time.Now()
		err := a.live(ctx)
		if !errors.Is(err, attach.ErrAgain) || !a.mayReturn() || ctx.Err() != nil {
			return err
		}
		if time.Since(began) > settled {
			times = 0
		}
		if times++; times > maxAgain {
			return fmt.Errorf("%w; that was asked %d times with less than %v between them, and is not tried again", err, times, settled)
		}
		a.Logger.Warn("joins_again", "reason", err, "time", times, "of", maxAgain)
		if again := (*island.Recalled)(nil); errors.As(err, &again) {
			a.Options = again.Again(a.Options)
		}
	}
}

// attended is an island and the trainer that attends it.
type attended struct {
	island.Options
	trainer
	env     *Env
	socket  string
	running *launch.Trainer // the command; nil: it was not started, or there is none
}

// mayReturn: the process of an island that a trainer has started, or the coordinator, ends
// with it, and another is started.
func (a *attended) mayReturn() bool {
	return a.Join.Incarnation == 0 && (len(a.command) > 0 || a.ParentStdin == nil)
}

// live is one life of the island.
func (a *attended) live(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := a.Options
	listen := attach.Options{Path: a.socket, Version: o.Version, Logger: o.Logger, Lost: cancel, Patience: socketPatience}
	if a.describe != nil {
		listen.Describe = func() (*attach.Run, error) { return a.describe(o) }
	}
	crew, err := attach.Listen(listen)
	if err != nil {
		return err
	}
	o.Crew = crew
	if len(a.command) == 0 {
		fmt.Fprintf(a.env.Stdout, "socket %s\n", a.socket)
		return island.Run(ctx, o)
	}
	if err := a.fetch(ctx, crew); err != nil {
		crew.Close()
		return err
	}
	t := a.running
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
	if err == nil { // what the trainer does after the run is its own, for some time
		err = awaitEnd(ctx, t, o.Logger, goodbyeSaid, goodbye)
	}
	cancel(nil)
	<-ended
	return outcomeOf(t, err)
}

// fetch starts the command, or waits for one that was asked to join again: its ranks come
// by themselves, or it ends of what it was told, and is started anew.
func (a *attended) fetch(ctx context.Context, crew *attach.Crew) error {
	if a.running == nil {
		return a.start()
	}
	here, stop := context.WithTimeout(ctx, returnPatience)
	defer stop()
	go func() {
		select {
		case <-a.running.Done():
			stop()
		case <-here.Done():
		}
	}()
	if _, err := crew.Gather(here); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-a.running.Done():
		if a.running.Err() == nil {
			return fmt.Errorf("the run goes on, and the trainer has ended in order in place of joining again")
		}
	default:
		a.Logger.Warn("trainer_stopped", "reason", fmt.Sprintf("it was asked to join again, and has done nothing for %v", returnPatience))
	}
	a.stop()
	a.Logger.Info("trainer_starts_again")
	return a.start()
}

func (a *attended) start() error {
	t, err := launch.StartTrainer(a.command, append(a.variables, socketVariable+"="+a.socket), a.env.Stdout, a.env.Stderr)
	if err != nil {
		return usage("command", a.command[0], err.Error(), "give a program that is there, and its arguments")
	}
	a.running = t
	a.Logger.Info("trainer_starts", "command", oneLine(strings.Join(a.command, " ")))
	return nil
}

func (a *attended) stop() {
	if a.running != nil {
		a.running.Stop(trainerPatience)
	}
}

// awaitEnd waits for the trainer's end, and says so after a while.
func awaitEnd(ctx context.Context, t *launch.Trainer, log *slog.Logger, said, patience time.Duration) error {
	saying, giveUp := time.After(said), time.After(patience)
	for {
		select {
		case <-t.Done():
			return t.Err()
		case <-saying:
			log.Info("waits_for_trainer", "reason", "the run is over, and the trainer goes on", "at_most", patience)
		case <-giveUp:
			return fmt.Errorf("the run is over, and the trainer has not ended within %v: it was stopped", patience)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// outcomeOf is how island and trainer ended together: the trainer's end explains why its
// ranks were lost.
func outcomeOf(t *launch.Trainer, err error) error {
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
