package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// desk answers calls beside sessions: it gives other hosts the run's token files and
// checkpoints, and takes the states that their islands save.
type desk struct{ h *host }

var _ transport.Desk = desk{}

// Allow implements transport.Desk.
func (d desk) Allow(who *wire.Credentials) string {
	if _, ok := d.h.authority.LifeOf(d.h.runID, who.GetSecret()); ok {
		return ""
	}
	return d.h.allow(who.GetSecret(), who.GetToken())
}

// sized is an open file that knows its size.
type sized struct {
	store.File
	size int64
}

func (s sized) Size() int64 { return s.size }

// Fetch implements transport.Desk.
func (d desk) Fetch(ctx context.Context, who *wire.Credentials, name string) (transport.File, error) {
	f, err := d.open(ctx, name)
	if of, ok := d.h.authority.LifeOf(d.h.runID, who.GetSecret()); ok && err == nil {
		return watched{f, func() { d.h.traffic.note(of.Incarnation, false) }}, nil
	}
	return f, err
}

// open finds what may be fetched. Nothing but run file, token files and checkpoints is given out:
// the folder holds the run's keys, too.
func (d desk) open(ctx context.Context, name string) (transport.File, error) {
	if err := store.CheckName(name); err != nil {
		return nil, notGiven(name, err.Error())
	}
	folder, file, _ := strings.Cut(name, "/")
	switch {
	case folder == dataFolder && file != "" && !strings.Contains(file, "/"):
		return d.dataFile(filepath.Join(d.h.dataDir, file), name)
	case folder == "checkpoints", name == runFileName: // a trainer that makes the run's model asks before it joins
		f, size, err := d.h.store.Open(ctx, name)
		if errors.Is(err, store.ErrNotFound) {
			return nil, notGiven(name, "is not there (any more)")
		}
		if err != nil {
			return nil, err
		}
		return sized{f, size}, nil
	}
	return nil, notGiven(name, "is neither the run file, a token file nor part of a checkpoint")
}

func (d desk) dataFile(path, name string) (transport.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, notGiven(name, "is not there")
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("no regular file")
	}
	if err != nil {
		f.Close()
		return nil, notGiven(name, err.Error())
	}
	return sized{f, info.Size()}, nil
}

func notGiven(name, problem string) error {
	return &fault.Input{Where: "file of the run", Value: name, Problem: problem}
}

// A saved state, also a host's part of one, has four values of 4 bytes for each element of the
// model at most (weights, two moments, and what may come to that), and some bytes of headers and
// counters.
const (
	stateElementBytes = 16
	stateMargin       = 64 << 20
)

// Store implements transport.Desk: an incarnation stores what it was asked to save, once, and
// nobody else in its place.
func (d desk) Store(ctx context.Context, who *wire.Credentials, object string, incarnation uint64, data io.Reader) (*wire.StoreReply, error) {
	of, ok := d.h.authority.LifeOf(d.h.runID, who.GetSecret())
	if !ok || of.Incarnation != incarnation || of.Era != d.h.era {
		return nil, notTaken(object, fmt.Sprintf("who sends it is not incarnation %d of era %d", incarnation, d.h.era))
	}
	done, why := d.h.asked.begin(incarnation, object)
	if why != "" {
		return nil, notTaken(object, why)
	}
	data = watchedReader{data, func() { d.h.traffic.note(incarnation, false) }}
	limit, over := stateElementBytes*int64(d.h.run.Size())+stateMargin, false
	o, err := d.h.store.Put(ctx, object, func(w io.Writer) error {
		n, err := io.Copy(w, io.LimitReader(data, limit+1))
		if over = n > limit; over {
			return errors.New("too long")
		}
		return err
	})
	done(err == nil)
	if over {
		return nil, notTaken(object, fmt.Sprintf("has more than the %d bytes that it may have", limit))
	}
	if err != nil {
		return nil, err
	}
	return &wire.StoreReply{SizeBytes: uint64(o.Size), Digest: o.SHA256}, nil
}

func notTaken(object, problem string) error {
	return &fault.Input{Where: "saved state", Value: object, Problem: problem}
}

// Status implements transport.Desk.
func (d desk) Status(context.Context) ([]byte, error) {
	d.h.emitMu.Lock()
	defer d.h.emitMu.Unlock()
	d.h.ledger.Advance(time.Now())
	return json.Marshal(d.h.ledger.Fleet())
}
