package attach

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// Options of Listen.
type Options struct {
	Path     string // of the socket
	Version  string // of this program
	Logger   *slog.Logger
	Lost     func(error)   // called once when a rank is lost; it must not wait
	Patience time.Duration // how long a process that listens there may take to go; 0: it is an error at once
	Unread   time.Duration // how long a rank may leave unread what it is told, before it is lost; 0: a minute

	Describe func() (*Run, error) // which run this is, for ranks that ask before hello; nil: nobody knows
}

// Listen waits for ranks on a Unix socket that only this user can open. A socket that
// a dead process has left behind is replaced.
func Listen(o Options) (*Crew, error) {
	if len(o.Path) > maxPath {
		return nil, &fault.Input{Where: "socket", Value: o.Path, Problem: fmt.Sprintf("%d bytes are too long for a Unix socket", len(o.Path)), Next: fmt.Sprintf("use a path of at most %d bytes", maxPath)}
	}
	if err := sweep(o.Path, o.Patience); err != nil {
		return nil, err
	}
	lis, err := net.Listen("unix", o.Path)
	if err == nil {
		if err = os.Chmod(o.Path, 0o600); err != nil {
			lis.Close()
		}
	}
	if err != nil {
		return nil, &fault.Input{Where: "socket", Value: o.Path, Problem: "cannot be made", Next: "use a path in a folder that is there and writable", Err: err}
	}
	c := &Crew{
		lis: lis, path: o.Path, version: o.Version, log: o.Logger, lost: o.Lost, about: o.Describe, unread: cmp.Or(o.Unread, time.Minute),
		full: make(chan struct{}), serving: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	c.readers.Go(c.accept)
	return c, nil
}

// maxPath is what every system takes for a socket: 104 bytes on macOS, 108 on Linux,
// with the zero behind it.
const maxPath = 103

// sweepEvery is the pause before a socket that is in use is looked at again.
const sweepEvery = 250 * time.Millisecond

// sweep removes a socket that nobody listens on. Whoever does may be on its way out, as an
// island is whose parent was killed.
func sweep(path string, patience time.Duration) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		return &fault.Input{Where: "socket", Value: path, Problem: "is there already and no socket", Next: "use another path"}
	}
	for began := time.Now(); ; time.Sleep(sweepEvery) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		conn.Close()
		if time.Since(began) < patience {
			continue
		}
		return &fault.Input{Where: "socket", Value: path, Problem: "another process listens there", Next: "end it, or use another path"}
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // it took it along
}

// acceptAgain is the pause before ranks are taken in again after the system could not, as a
// process that has no files left cannot.
const acceptAgain = 100 * time.Millisecond

func (c *Crew) accept() {
	for {
		conn, err := c.lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.log.Warn("not_accepted", "err", err)
			time.Sleep(acceptAgain)
			continue
		}
		c.mu.Lock()
		open := !c.closed && ours(conn)
		if open {
			c.conns[conn] = true
			c.readers.Go(func() { c.read(conn) })
		}
		c.mu.Unlock()
		if !open {
			conn.Close()
		}
	}
}
