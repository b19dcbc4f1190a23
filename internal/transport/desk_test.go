package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/wire"
)

// desk keeps what is stored, under one token.
type desk struct {
	objects map[string][]byte
}

type buffer struct{ *bytes.Reader }

func (buffer) Close() error { return nil }

func (d *desk) Allow(who *wire.Credentials) string {
	if who.GetToken() != "t" {
		return "the token is wrong"
	}
	return ""
}

func (d *desk) Fetch(_ context.Context, _ *wire.Credentials, name string) (File, error) {
	data, ok := d.objects[name]
	if !ok {
		return nil, &fault.Input{Where: "object", Value: name, Problem: "is not there"}
	}
	return buffer{bytes.NewReader(data)}, nil
}

func (d *desk) Store(_ context.Context, _ *wire.Credentials, object string, incarnation uint64, data io.Reader) (*wire.StoreReply, error) {
	all, err := io.ReadAll(data)
	if err != nil {
		return nil, err
	}
	d.objects[object] = all
	return &wire.StoreReply{SizeBytes: uint64(len(all)), Digest: fmt.Sprint(incarnation)}, nil
}

func (d *desk) Status(context.Context) ([]byte, error) { return []byte("{}"), nil }

// secured is a server behind the TLS of a run's own authority, and how to join it.
func secured(t *testing.T, o Options, h Handler) wire.Join {
	t.Helper()
	a, err := authority.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o.RunID = "r1"
	config, err := a.Server(o.RunID)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	s := New(o, h)
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return wire.Join{Address: lis.Addr().String(), RunID: o.RunID, Authority: a.Fingerprint(), Token: "t"}
}

// The danger: half a file that counts as a whole one, a call without credentials, and
// bytes that go astray at the edges of blocks.
func TestCallsOverTLS(t *testing.T) {
	d := &desk{objects: map[string][]byte{}}
	join := secured(t, Options{Desk: d}, &recorder{quit: closed()})
	c, err := Call(join)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, size := range []int{0, 1, ChunkBytes - 1, ChunkBytes, ChunkBytes + 1, 3*ChunkBytes + 17} {
		want := make([]byte, size)
		rand.Read(want)
		reply, err := c.Store(ctx, "x", 7, func(w io.Writer) error {
			for at := 0; at < len(want); at += 300_001 {
				if _, err := w.Write(want[at:min(at+300_001, len(want))]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || reply.SizeBytes != uint64(size) || reply.Digest != "7" {
			t.Fatalf("store %d bytes: %v, %v", size, reply, err)
		}
		from := size / 3
		var got bytes.Buffer
		n, err := c.Fetch(ctx, "x", int64(from), int64(size), &got)
		if err != nil || n != int64(size-from) || !bytes.Equal(got.Bytes(), want[from:]) {
			t.Fatalf("fetch %d of %d bytes: %d, %v", size-from, size, n, err)
		}
	}
	if _, err := c.Fetch(ctx, "x", 0, ChunkBytes, io.Discard); err == nil || !strings.Contains(err.Error(), "more than the 1048576 bytes") {
		t.Errorf("too long: %v", err)
	}
	if _, err := c.Fetch(ctx, "y", 0, 1, io.Discard); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), `object "y": is not there`) {
		t.Errorf("not there: %v", err)
	}
	broken := errors.New("the disk is gone")
	before := bytes.Clone(d.objects["x"])
	if _, err := c.Store(ctx, "x", 7, func(w io.Writer) error {
		w.Write(make([]byte, 2*ChunkBytes)) //nolint:errcheck // the error below counts
		return broken
	}); !errors.Is(err, broken) || !bytes.Equal(d.objects["x"], before) {
		t.Errorf("half a file: %v, %d bytes are kept", err, len(d.objects["x"]))
	}
	if text, err := c.Status(ctx); err != nil || string(text) != "{}" {
		t.Errorf("status %q, %v", text, err)
	}
	if r, err := c.Measure(ctx); err != nil || !(r.Down > 0) || !(r.Up > 0) {
		t.Errorf("measured %+v, %v", r, err)
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestCallsAreRefused(t *testing.T) {
	join := secured(t, Options{Desk: &desk{}}, &recorder{quit: closed()})
	for name, c := range map[string]struct {
		change func(*wire.Join)
		want   string
	}{
		"token": {func(j *wire.Join) { j.Token = "u" }, "refused by the coordinator: the token is wrong"},
		"run":   {func(j *wire.Join) { j.RunID = "r2" }, authority.ErrOther.Error()},
		"other authority": {func(j *wire.Join) { j.Authority = strings.Repeat("ab", 32) },
			authority.ErrOther.Error() + ": the join string names authority abababab"},
	} {
		j := join
		c.change(&j)
		calls, err := Call(j)
		if err != nil {
			t.Fatal(err)
		}
		_, err = calls.Status(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		calls.Close()
	}
}

// Nothing goes to another host in the clear.
func TestNoTLSOnThisHostOnly(t *testing.T) {
	for _, address := range []string{"10.0.0.1:7070", "example.org:7070", "[fe80::1]:7070"} {
		_, err := Call(wire.Join{Address: address, RunID: "r"})
		var in *fault.Input
		if !errors.As(err, &in) || !strings.Contains(err.Error(), "nothing goes to another host in the clear") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// An arrival has neither era nor incarnation until its welcome.
func TestArrivalTakesItsIncarnationFromTheWelcome(t *testing.T) {
	r := &recorder{events: make(chan event), quit: make(chan struct{})}
	defer close(r.quit)
	asked := make(chan string, 4)
	join := secured(t, Options{Era: 5, View: 1, Allow: func(h *wire.Hello, o *wire.Origin) string {
		asked <- h.Token
		if h.Token != "t" {
			return "this token is not of the run"
		}
		return ""
	}}, r)
	c, err := Dial(t.Context(), join, &wire.Hello{Version: "v"})
	if err != nil {
		t.Fatal(err)
	}
	e := r.wantHello(t)
	if e.origin.Era != 0 || e.origin.Incarnation != 0 || <-asked != "t" {
		t.Errorf("it comes as %v", e.origin)
	}
	e.peer.Adopt(9)
	if err := e.peer.Send(Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Welcome{Welcome: &wire.Welcome{Island: "x"}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Recv(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := c.Origin(); o.Era != 5 || o.Incarnation != 9 {
		t.Errorf("after the welcome it is %v", o)
	}
	if err := c.Send(Up{FromLearner: &wire.FromLearner{Body: &wire.FromLearner_Idle{Idle: &wire.Idle{}}}}); err != nil {
		t.Fatal(err)
	}
	if m := r.next(t).up; m.GetOrigin().GetIncarnation() != 9 || m.GetOrigin().GetEra() != 5 {
		t.Errorf("it speaks as %v", m.GetOrigin())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	r.wantGone(t)
	join.Token = "u"
	if c, err = Dial(t.Context(), join, nil); err != nil {
		t.Fatal(err)
	}
	m, err := c.Recv(t.Context())
	if err != nil || m.GetRejected().GetReason() != "this token is not of the run" {
		t.Errorf("%v, %v", m.ToLearner, err)
	}
	c.Close() //nolint:errcheck // it was closed by the coordinator
}

// TestG15BlockedPort: a port that takes connections in and says nothing, and one that is
// closed. Within 10 s the words name both ends. Packets that are dropped on the way have a test
// with networks of their own, python/tests/test_hosts.py.
func TestG15BlockedPort(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	shut, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut.Close()
	for name, address := range map[string]string{"silent": silent.Addr().String(), "shut": shut.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := Dial(t.Context(), wire.Join{Address: address, RunID: "r", Authority: strings.Repeat("ab", 32)}, nil)
			var in *fault.Input
			if !errors.As(err, &in) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "asked from 127.0.0.1 on interface lo") {
				t.Errorf("%v", err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("after %v", took)
			}
		})
	}
}
