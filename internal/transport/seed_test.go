package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/wire"
)

// sink is a SeedSink that wants everything.
type sink func(ctx context.Context, island string, file io.Reader) (string, error)

func (sink) Wanted(string) error { return nil }

func (s sink) Take(ctx context.Context, island string, file io.Reader) (string, error) {
	return s(ctx, island, file)
}

// unwilling is one that wants nothing.
type unwilling struct{ why error }

func (u unwilling) Wanted(string) error                                   { return u.why }
func (unwilling) Take(context.Context, string, io.Reader) (string, error) { panic("not wanted") }

// whole is a sink that gives what it was sent.
func whole(into *bytes.Buffer, island *string) SeedSink {
	return sink(func(_ context.Context, name string, file io.Reader) (string, error) {
		*island = name
		_, err := io.Copy(into, file)
		return "digest", err
	})
}

func seed(t testing.TB, ctx context.Context, j wire.Join, island string, write func(io.Writer) error) (string, error) {
	c, err := Call(j)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Seed(ctx, island, write)
}

func wanted(t testing.TB, j wire.Join) error {
	c, err := Call(j)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.SeedWanted(withPatience(t), "fast")
}

func write(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// What is uploaded comes out as it was, of any size around the size of a message.
func TestSeedComesWhole(t *testing.T) {
	var got bytes.Buffer
	var island string
	_, _, j := serve(t, Options{Seed: whole(&got, &island)})
	for _, size := range []int{1, ChunkBytes - 1, ChunkBytes, ChunkBytes + 1, 3*ChunkBytes + 7} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * 31)
		}
		got.Reset()
		digest, err := seed(t, withPatience(t), j, "fast", write(data))
		if err != nil || digest != "digest" || island != "fast" || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d bytes: %d came from %q, digest %q, %v", size, got.Len(), island, digest, err)
		}
	}
}

// The danger: anybody who finds the port decides what the run begins with.
func TestSeedNeedsTheSecret(t *testing.T) {
	called := false
	_, _, j := serve(t, Options{Seed: sink(func(context.Context, string, io.Reader) (string, error) { called = true; return "", nil })})
	for says, change := range map[string]func(*wire.Join){
		"the secret of the join string": func(j *wire.Join) { j.Secret = "other" },
		`wants run "other"`:             func(j *wire.Join) { j.RunID = "other" },
	} {
		other := j
		change(&other)
		_, err := seed(t, withPatience(t), other, "fast", write([]byte("x")))
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), says) || called {
			t.Errorf("%v, called: %v", err, called)
		}
	}
}

// A refusal ends a long upload at once, and says why; one for a run that has its weights
// is told apart, because an island that comes back meets it every time.
func TestSeedRefusals(t *testing.T) {
	refuse := errors.New("tensor w: element 3 is NaN")
	_, _, j := serve(t, Options{Seed: sink(func(context.Context, string, io.Reader) (string, error) { return "", refuse })})
	endless := func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, ChunkBytes)); err != nil {
				return err
			}
		}
	}
	if _, err := seed(t, withPatience(t), j, "fast", endless); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "element 3 is NaN") {
		t.Errorf("%v", err)
	}
	_, _, j = serve(t, Options{})
	if _, err := seed(t, withPatience(t), j, "fast", endless); !errors.Is(err, ErrSeeded) {
		t.Errorf("%v", err)
	}
	if err := wanted(t, j); !errors.Is(err, ErrSeeded) {
		t.Errorf("%v", err)
	}
	_, _, j = serve(t, Options{Seed: unwilling{errors.New("not from here")}})
	if err := wanted(t, j); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "not from here") {
		t.Errorf("%v", err)
	}
	_, _, j = serve(t, Options{Seed: sink(nil)})
	if err := wanted(t, j); err != nil {
		t.Errorf("%v", err)
	}
	own := errors.New("the trainer is gone")
	if _, err := seed(t, withPatience(t), j, "fast", func(io.Writer) error { return own }); !errors.Is(err, own) {
		t.Errorf("%v", err)
	}
}

// hangs has an uploader hang once the sink has begun; false: its first bytes took as long as that.
func hangs(t *testing.T, stall time.Duration) bool {
	t.Helper()
	began, hang, ended, done := make(chan struct{}), make(chan struct{}), make(chan error, 1), make(chan error, 1)
	_, _, j := serve(t, Options{StallTimeout: stall, Seed: sink(func(_ context.Context, _ string, file io.Reader) (string, error) {
		close(began)
		_, err := io.Copy(io.Discard, file)
		ended <- err
		return "", err
	})})
	go func() {
		_, err := seed(t, withPatience(t), j, "fast", func(w io.Writer) error {
			for {
				if _, err := w.Write(make([]byte, ChunkBytes)); err != nil {
					return err
				}
				select {
				case <-began:
					<-hang
					return nil
				case <-time.After(stall / 10):
				}
			}
		})
		done <- err
	}()
	select {
	case <-began:
	case <-done:
		return false
	}
	if err := <-ended; !errors.Is(err, ErrSilent) {
		t.Errorf("the sink ends with %v", err)
	}
	close(hang)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "stopped sending") {
		t.Errorf("the uploader hears %v", err)
	}
	return true
}

// The danger: an uploader that hangs, or dies, keeps the run from ever beginning.
func TestSeedThatStopsComing(t *testing.T) {
	for stall := 50 * time.Millisecond; !hangs(t, stall); stall *= 2 { // a busy machine may take longer
		t.Logf("nothing came within %v", stall)
	}
	ended := make(chan error, 1)
	began := make(chan struct{})
	_, _, j := serve(t, Options{Seed: sink(func(_ context.Context, _ string, file io.Reader) (string, error) {
		_, err := file.Read(make([]byte, 1))
		close(began)
		if err == nil {
			_, err = io.Copy(io.Discard, file)
		}
		ended <- err
		return "", err
	})})
	ctx, kill := context.WithCancel(withPatience(t))
	_, err := seed(t, ctx, j, "fast", func(w io.Writer) error {
		_, err := w.Write(make([]byte, ChunkBytes))
		<-began
		kill()
		return err
	})
	if err == nil || <-ended == nil {
		t.Errorf("an upload that is cut off counts as whole: %v", err)
	}
}

// The danger: who opens an upload and says nothing, or stops in the middle, is served for ever,
// without a right to be.
func TestUploadsThatSayNothing(t *testing.T) {
	join := secured(t, Options{StallTimeout: 50 * time.Millisecond, Desk: &desk{objects: map[string][]byte{}}, Seed: sink(nil)}, &recorder{})
	c, err := Call(join)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	store, err := c.to.Store(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := c.to.Seed(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	half, err := c.to.Store(withPatience(t))
	if err == nil {
		err = half.Send(&wire.StoreRequest{Credentials: c.credentials(), Object: "x", Incarnation: 7, Data: []byte("half of it")})
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, wait := range map[string]func(any) error{"store": store.RecvMsg, "seed": seed.RecvMsg, "half": half.RecvMsg} {
		if err := wait(&wire.StoreReply{}); err == nil || !strings.Contains(err.Error(), "peer stopped sending for 50ms") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
