package attach

import (
	"log/slog"
	"net"
	"path/filepath"
	"syscall"
	"testing"
)

// hiccup is a listener that cannot take the first connection.
type hiccup struct {
	net.Listener
	tried bool
}

func (h *hiccup) Accept() (net.Conn, error) {
	if !h.tried {
		h.tried = true
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return h.Listener.Accept()
}

// Danger: the process has no files left for a moment, and no rank is ever heard again.
func TestAcceptGoesOn(t *testing.T) {
	lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	c := &Crew{
		lis: &hiccup{Listener: lis}, log: slog.New(slog.DiscardHandler), conns: map[net.Conn]bool{},
		full: make(chan struct{}), serving: make(chan struct{}),
	}
	c.readers.Go(c.accept)
	defer c.Close()
	conn, err := net.Dial("unix", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("nobody answers: %v", err)
	}
}
