package attach_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/attach/attachtest"
	"github.com/mistura-project/mistura/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func tensors() []attachtest.Tensor {
	return []attachtest.Tensor{{Name: "a", Shape: []int{5, 3}}, {Name: "b", Shape: []int{2}}}
}

// listen is a crew in a short folder; what it loses comes on the channel.
func listen(t *testing.T) (*attach.Crew, <-chan error) {
	t.Helper()
	return listenLogging(t, io.Discard)
}

func listenLogging(t *testing.T, log io.Writer) (*attach.Crew, <-chan error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	lost := make(chan error, 4)
	c, err := attach.Listen(attach.Options{
		Path: filepath.Join(dir, "s"), Version: "9.9", Logger: slog.New(slog.NewTextHandler(log, nil)), Lost: func(err error) { lost <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, lost
}

// welcome lets all ranks in, with memory for their pieces.
func welcome(t *testing.T, c *attach.Crew, handle func(*attach.Rank, any) error) []*attach.Rank {
	t.Helper()
	ranks, err := c.Gather(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Serve(handle)
	for _, r := range ranks {
		w := &attach.Welcome{Protocol: attach.Protocol}
		sizes, numbers, gives := []int{}, []int{}, []bool{}
		for i, p := range r.Hello.Pieces {
			n := 1
			for _, e := range p.Extent {
				n *= e
			}
			sizes, numbers, gives = append(sizes, n), append(numbers, i), append(gives, p.Replica == 0)
		}
		w.Fragments = [][]int{numbers}
		if err := r.Share(sizes, gives, w); err != nil {
			t.Fatal(err)
		}
		if err := r.Send(w); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range ranks {
		if err := r.Settled(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return ranks
}

// Ranks join in any order, share memory with this process, and what they say comes
// in their order. The shared file is gone as soon as both have it, the socket with the crew.
func TestCrew(t *testing.T) {
	c, lost := listen(t)
	info, err := os.Stat(c.Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
	joined := make(chan *attachtest.Trainer, 1)
	go func() {
		trainer, err := attachtest.Join(c.Path(), patience, attachtest.Hellos(tensors(), 3, attachtest.Rows)...)
		if err != nil {
			t.Error(err)
		}
		joined <- trainer
	}()
	heard := make(chan any, 9)
	ranks := welcome(t, c, func(r *attach.Rank, m any) error {
		heard <- m
		return r.Send(&attach.Value{Fragment: int(m.(*attach.Fetch).Fragment), Changed: r.Hello.Rank == 1})
	})
	trainer := <-joined
	defer trainer.Close()
	for i, r := range ranks {
		if _, err := os.Stat(trainer.Ranks[i].Welcome.Shm.Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the shared file of rank %d is still there: %v", i, err)
		}
		if r.Hello.Rank != i || (r.Out[1] == nil) != (r.Hello.Pieces[1].Replica > 0) || len(r.In[1]) != 2 {
			t.Errorf("rank %d holds %v and %v", i, r.Out, r.In)
		}
	}
	for i, r := range trainer.Ranks {
		for n := range 3 {
			m, err := r.Ask(&attach.Fetch{Fragment: n, Op: attach.Adopt})
			if v, ok := m.(*attach.Value); err != nil || !ok || v.Fragment != n || v.Changed != (i == 1) {
				t.Errorf("rank %d: %v, %v", i, m, err)
			}
			if f := (<-heard).(*attach.Fetch); f.Fragment != n {
				t.Errorf("rank %d: heard %+v as message %d", i, f, n)
			}
		}
	}
	c.Part()
	trainer.Close()
	if err := c.Gone(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	select {
	case err := <-lost:
		t.Errorf("ranks that may go are lost: %v", err)
	default:
	}
}

// A rank that is gone, or says what cannot be, is told of once, with its number.
func TestLostRank(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(*attachtest.Rank) error
		want string
	}{
		"closed":      {func(r *attachtest.Rank) error { r.Close(); return nil }, "rank 1 (process"},
		"hello twice": {func(r *attachtest.Rank) error { return r.Say(&r.Hello) }, "said hello twice"},
		"seeded":      {func(r *attachtest.Rank) error { return r.Say(&attach.Seeded{}) }, "said seeded, and was not asked"},
		"fails": {func(r *attachtest.Rank) error {
			return r.Say(&attach.Failed{Fault: attach.Fault{Problem: "division by zero"}})
		}, "): division by zero"},
		"not handled": {func(r *attachtest.Rank) error { return r.Say(&attach.Bye{}) }, "nobody wants that"},
	} {
		t.Run(name, func(t *testing.T) {
			crew, lost := listen(t)
			joined := make(chan *attachtest.Trainer, 1)
			go func() {
				trainer, err := attachtest.Join(crew.Path(), patience, attachtest.Hellos(tensors(), 2, attachtest.Replicated)...)
				if err != nil {
					t.Error(err)
				}
				joined <- trainer
			}()
			welcome(t, crew, func(*attach.Rank, any) error { return &fault.Input{Where: "x", Problem: "nobody wants that"} })
			trainer := <-joined
			defer trainer.Close()
			if err := c.act(trainer.Ranks[1]); err != nil {
				t.Fatal(err)
			}
			err := <-lost
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			crew.Fail(err, true)
			if _, heard := trainer.Ranks[0].Ask(&attach.Again{}); heard == nil || !strings.Contains(heard.Error(), c.want) {
				t.Errorf("the other rank hears %v", heard)
			}
		})
	}
}

// Danger: a rank that is stopped, or has forgotten how to listen, holds up whoever tells it
// something for ever, and the end of the island with it.
func TestRankThatDoesNotListen(t *testing.T) {
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	lost := make(chan error, 1)
	c, err := attach.Listen(attach.Options{
		Path: filepath.Join(dir, "s"), Logger: slog.New(slog.DiscardHandler), Lost: func(err error) { lost <- err }, Unread: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := net.Dial("unix", c.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	line, err := attach.Encode(&attachtest.Hellos(tensors(), 1, attachtest.Replicated)[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(line); err != nil {
		t.Fatal(err)
	}
	ranks, err := c.Gather(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const want = "it has not read what it was told for 20ms"
	long := &attach.Bye{Reason: strings.Repeat("x", 32<<20)} // more than the system keeps for it
	for range 2 {
		if err := ranks[0].Send(long); err == nil || err.Error() != want {
			t.Errorf("%v", err)
		}
	}
	if err := <-lost; !errors.Is(err, attach.ErrLost) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
	c.Fail(errors.New("the end"), true)
}

// A hello that is longer than any message is refused in words, and the crew goes on waiting.
func TestHelloThatIsTooLong(t *testing.T) {
	c, _ := listen(t)
	conn, err := net.Dial("unix", c.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go conn.Write(bytes.Repeat([]byte(" "), attach.MaxLineBytes+1)) //nolint:errcheck // it is cut off
	if answer, err := readLine(conn); err != nil || !strings.Contains(answer, "a message of more than 67108864 bytes") {
		t.Errorf("%q, %v", answer, err)
	}
	if c.Here() {
		t.Error("all ranks are here")
	}
}

// What a hello may not be is refused with the reason, and the crew goes on waiting.
func TestRefusedHellos(t *testing.T) {
	here := make(lines, 64)
	c, _ := listenLogging(t, here)
	hellos := attachtest.Hellos(tensors(), 2, attachtest.Replicated)
	begin := func(h attach.Hello) error {
		conn, err := attachtest.Open(c.Path(), patience)
		if err != nil {
			t.Fatal(err)
		}
		_, err = attachtest.Begin(conn, h)
		return err
	}
	first := make(chan error, 1)
	go func() { first <- begin(hellos[0]) }()
	for !strings.Contains(<-here, "rank_is_here") {
	}
	for name, bad := range map[string]struct {
		change func(*attach.Hello)
		want   string
	}{
		"protocol":   {func(h *attach.Hello) { h.Protocol = 7 }, `local protocol "7": this mistura (9.9) speaks 1`},
		"host world": {func(h *attach.Hello) { h.World, h.HostWorld = 3, 3 }, "host_world is 3, other ranks say 2"},
		"own data":   {func(h *attach.Hello) { h.OwnData = true }, "own_data, own_rate, name or slots differ from rank 0's"},
		"world":      {func(h *attach.Hello) { h.World = 4 }, "world 4, part 0 of 1"},
		"engine":     {func(h *attach.Hello) { h.Engine = "other" }, "neither torch nor external"},
	} {
		h := hellos[1]
		bad.change(&h)
		if err := begin(h); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v, want ...%s", name, err, bad.want)
		}
	}
	conn, err := net.Dial("unix", c.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\n")); err != nil {
		t.Fatal(err)
	}
	if answer, err := readLine(conn); err != nil || !strings.Contains(answer, `"refused"`) {
		t.Errorf("another protocol altogether: %q, %v", answer, err)
	}
	if c.Here() {
		t.Error("all ranks are here")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := c.Gather(ctx); err == nil || err.Error() != "enough" {
		t.Errorf("%v", err)
	}
	c.Fail(&fault.Input{Where: "join string", Problem: "has expired"}, false)
	if err := <-first; err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("the rank that waited hears %v", err)
	}
}

// lines are those of a log.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func readLine(conn net.Conn) (string, error) {
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

func TestListenFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := listen(t)
	for path, want := range map[string]string{
		strings.Repeat("x", 200):         "too long for a Unix socket",
		file:                             "is there already and no socket",
		c.Path():                         "another process listens there",
		filepath.Join(dir, "no", "sock"): "cannot be made",
	} {
		_, err := attach.Listen(attach.Options{Path: path})
		var input *fault.Input
		if !errors.As(err, &input) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30s: %v, want ...%s", path, err, want)
		}
	}
}

// A socket that a dead process has left behind is no obstacle.
func TestSocketOfTheDead(t *testing.T) {
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	c, err := attach.Listen(attach.Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A run that was killed and is resumed at once finds its islands' sockets still in use by
// islands that are on their way out.
func TestListenWaitsForWhoLeaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := attach.Listen(attach.Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	leaving := time.AfterFunc(50*time.Millisecond, old.Close)
	defer leaving.Stop()
	c, err := attach.Listen(attach.Options{Path: path, Logger: slog.New(slog.DiscardHandler), Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
