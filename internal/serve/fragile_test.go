package serve_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
)

// fragileWay is an address that leads to another one until a SIGUSR1 comes; then every
// connection breaks, whatever is under way.
func fragileWay(address string) (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	var mu sync.Mutex
	var open []net.Conn
	cut := make(chan os.Signal, 1)
	signal.Notify(cut, syscall.SIGUSR1)
	go func() {
		for range cut {
			mu.Lock()
			for _, c := range open {
				c.Close()
			}
			open = nil
			mu.Unlock()
		}
	}()
	pass := func(to, from net.Conn) {
		io.Copy(to, from) //nolint:errcheck // any end is the end
		to.Close()
		from.Close()
	}
	go func() {
		for {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			go pass(in, out)
			go pass(out, in)
		}
	}()
	return lis.Addr().String(), nil
}

// spoilingWay is an address that leads to another one; on the way from there a bit is lost: in the last
// byte of the Nth piece that is these bytes, as in N-BYTES (hex).
func spoilingWay(address, what string) (string, error) {
	var nth int
	var coded string
	if _, err := fmt.Sscanf(what, "%d-%s", &nth, &coded); err != nil {
		return "", err
	}
	piece, err := hex.DecodeString(coded)
	if err != nil {
		return "", err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		defer lis.Close()
		in, err := lis.Accept() // one session: an island that is to be spoilt is not cut off
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", address)
		if err != nil {
			in.Close()
			return
		}
		go func() {
			io.Copy(out, in) //nolint:errcheck // any end is the end
			out.Close()
		}()
		io.Copy(&spoiler{in, piece, nth, nil}, out) //nolint:errcheck // any end is the end
		in.Close()
	}()
	return lis.Addr().String(), nil
}

// spoiler passes bytes on, all but one of them as they are.
type spoiler struct {
	to    io.Writer
	piece []byte
	left  int    // pieces until the one that is spoilt
	last  []byte // bytes, as many as a piece has
}

func (s *spoiler) Write(p []byte) (int, error) {
	p = slices.Clone(p)
	for i := range p {
		s.last = append(s.last[max(0, len(s.last)-len(s.piece)+1):], p[i])
		if s.left > 0 && bytes.Equal(s.last, s.piece) {
			if s.left--; s.left == 0 {
				p[i] ^= 1
			}
		}
	}
	return s.to.Write(p)
}

// Danger: a connection breaks and with it go leases, calls, contributions and verdicts;
// the run waits for ever, or samples count twice. Here it breaks again and again; the
// island comes back as the same life each time.
func TestConnectionBreaksAgainAndAgain(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]runfile.Run{
		"of one of two": tiny(t, func(run *runfile.Run) { run.Tokens = stepTokens * 400 }),
		"of a lone one": alone(t, func(run *runfile.Run) { run.Tokens = stepTokens * 300 }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			island := run.Islands[0].Name
			c := begin(t, folder(t), run, false, func(c *trial, e ledger.Event) {
				if s, ok := e.(ledger.StepDone); ok && s.Incarnation == 1 && s.Step%40 == 0 {
					c.signal(island, 1, unix.SIGUSR1)
				}
			}, faking(island+"-1="+actFragile))
			sum := c.finish()
			if len(run.Islands) == 1 { // the samples were trained in their order, each once
				want := plain(t, run, filepath.Join(c.dir, "data"))
				sameBits(t, "final weights", saved(t, c.dir, "model.safetensors", run), want.weights)
			}
			for _, i := range sum.Islands {
				if i.Restarts > 0 {
					t.Errorf("%s was started again: %v", i.Name, recorded[ledger.IslandGone](c))
				}
			}
		})
	}
}
