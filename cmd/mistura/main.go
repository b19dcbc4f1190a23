// Command mistura trains one Mixture-of-Experts language model on unlike machines.
package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mistura-project/mistura/internal/cli"
)

// patience is how long the program may take to end after a second signal.
const patience = 3 * time.Second

func main() {
	os.Exit(cli.Main(cli.Env{
		Args:    os.Args,
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Getenv:  os.Getenv,
		Signals: signals(),
		Anew:    anew,
	}))
}

// anew becomes this program again, with other arguments and one more variable.
func anew(args []string, variable string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(exe, args, append(os.Environ(), variable))
}

// signals hands on interrupts, terminations and hang-ups, the closing of a terminal.
// After the second the program ends, by force if it must.
func signals() <-chan os.Signal {
	system, handed := make(chan os.Signal, 8), make(chan os.Signal, 2)
	signal.Notify(system, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // nohup asks to be left alone
		signal.Notify(system, syscall.SIGHUP)
	}
	go func() {
		handOn(system, handed)
		time.Sleep(patience)
		os.Exit(128 + int(syscall.SIGINT))
	}()
	return handed
}

// handOn hands on the first signal and the second. A hang-up is never the second: the
// kernel and the shell both tell of a terminal that closes.
func handOn(system <-chan os.Signal, handed chan<- os.Signal) {
	handed <- <-system
	for s := range system {
		if s != syscall.SIGHUP {
			handed <- s
			return
		}
	}
}
