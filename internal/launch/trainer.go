package launch

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Trainer is a user's program that trains for an island, with whatever it has started.
type Trainer struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; set before done is closed
	once sync.Once
}

// StartTrainer runs a command with further variables in its environment; what it prints
// goes to the writers.
func StartTrainer(args, variables []string, stdout, stderr io.Writer) (*Trainer, error) {
	t := &Trainer{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	t.cmd.Env = append(os.Environ(), variables...)
	t.cmd.Stdout, t.cmd.Stderr = stdout, stderr
	t.cmd.WaitDelay = time.Second // a grandchild may hold the pipes
	ownGroup(t.cmd)
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the trainer: %w", err)
	}
	go func() {
		t.err = t.cmd.Wait()
		close(t.done)
	}()
	return t, nil
}

// Done is closed when the command has ended.
func (t *Trainer) Done() <-chan struct{} { return t.done }

// Err is how it ended, once it has; nil: in order.
func (t *Trainer) Err() error {
	if t.err != nil {
		return fmt.Errorf("the trainer (process %d) ended: %w", t.cmd.Process.Pid, t.err)
	}
	return nil
}

// Stop asks the command and what it has started to end, and kills all that is left after
// patience.
func (t *Trainer) Stop(patience time.Duration) {
	t.once.Do(func() {
		endGroup(t.cmd)
		select {
		case <-t.done:
		case <-time.After(patience):
		}
		killGroup(t.cmd)
		<-t.done
	})
}
