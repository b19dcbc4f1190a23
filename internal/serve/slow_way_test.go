package serve_test

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
)

// narrow is a way to a coordinator that takes bytesPerSecond in each direction.
func narrow(t *testing.T, to string, bytesPerSecond int64) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	const pieces = 8 // in a second
	slow := func(a, b net.Conn) {
		defer a.Close()
		for {
			began := time.Now()
			if _, err := io.CopyN(a, b, bytesPerSecond/pieces); err != nil {
				return
			}
			time.Sleep(time.Second/pieces - time.Since(began))
		}
	}
	go func() {
		for {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			go slow(in, out)
			go slow(out, in)
		}
	}()
	return lis.Addr().String()
}

// The danger: weights take longer on their way than limits.first_step_seconds, and the island
// is ended for that as often as it comes. They are 80 MB at 10 MB/s here, so that they do not
// fit into what streams and sockets hold, and 28 GB at 1 Gbit/s elsewhere.
func TestAnIslandOnASlowWayBecomesReady(t *testing.T) {
	t.Parallel()
	run := tiny(t, func(r *runfile.Run) {
		listed(r)
		larger, err := r.WithModel("ling-micro")
		if err != nil {
			t.Fatal(err)
		}
		*r = larger
		r.Islands, r.Gate = r.Islands[:1], runfile.GateOff
		r.Limits.HeartbeatSeconds, r.Limits.StallSeconds, r.Limits.FirstStepSeconds = 4, 4, 4
	})
	s := serveRun(t, filepath.Join(t.TempDir(), "run"), run, false)
	j := s.invitation()
	j.Address = narrow(t, j.Address, 10_000_000)
	began := time.Now()
	vanish, _ := s.join(j, "a")
	s.until(readyIs("a"))
	if took := time.Since(began); took.Seconds() < run.Limits.FirstStepSeconds {
		t.Fatalf("the weights took only %v: nothing is shown", took)
	}
	if gone := recorded[ledger.IslandGone](s.trial); len(gone) > 0 {
		t.Errorf("%+v", gone)
	}
	vanish()
	s.kill()
}
