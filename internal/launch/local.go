package launch

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Spec describes one island process on this machine.
type Spec struct {
	Args []string // program and arguments; it reads its join string from stdin
	Join string   // first line of its stdin: not on the command line, where others could read the secret
	Log  string   // file that takes its stdout and stderr
}

// Process is a running island. Its stdin stays open as long as this process
// lives: an island takes the end of stdin for the death of its parent.
type Process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	log   *os.File
	done  chan struct{}
	once  sync.Once
	why   string
}

// Start runs the process. Ended is called once, from a goroutine of its own, with
// how it ended.
func Start(s Spec, ended func(why string)) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(s.Log), 0o755); err != nil {
		return nil, fmt.Errorf("starting an island: %w", err)
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("starting an island: %w", err)
	}
	p := &Process{cmd: exec.Command(s.Args[0], s.Args[1:]...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	ownGroup(p.cmd)
	if p.stdin, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("starting an island: %w", err)
	}
	// A process that ends before it reads is reported by wait.
	fmt.Fprintln(p.stdin, s.Join) //nolint:errcheck
	go func() {
		p.wait()
		ended(p.why)
	}()
	return p, nil
}

// wait reaps the process and says how it ended. One that ended by itself has said
// why in the last line of its log; one that was killed could not.
func (p *Process) wait() {
	err := p.cmd.Wait()
	p.why = "its process ended"
	if err != nil {
		p.why += ": " + err.Error()
	}
	if line := lastLine(p.log.Name()); line != "" && p.cmd.ProcessState.ExitCode() > 0 {
		p.why += "; last line of its log: " + line
	}
	p.log.Close()
	close(p.done)
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process at once.
func (p *Process) Kill() { p.cmd.Process.Kill() } //nolint:errcheck // it has ended already

// Stop closes its stdin and waits for it to end, at most for patience; then it is killed.
func (p *Process) Stop(patience time.Duration) {
	p.once.Do(func() { p.stdin.Close() })
	select {
	case <-p.done:
	case <-time.After(patience):
		p.Kill()
		<-p.done
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// lastLine of a file, for messages; empty when there is none.
func lastLine(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	const tail = 4096
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		f.Seek(-tail, io.SeekEnd) //nolint:errcheck // then the whole file is read
	}
	data, err := io.ReadAll(io.LimitReader(f, tail))
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return strings.TrimSpace(string(lines[len(lines)-1]))
}
