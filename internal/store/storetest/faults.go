package storetest

import (
	"context"
	"errors"
	"io"
	"path"
	"sync"

	"github.com/mistura-project/mistura/internal/store"
)

// Op is an operation of a store.
type Op string

// The operations that can be made to fail.
const (
	Create    Op = "create"
	Put       Op = "put"
	Open      Op = "open"
	List      Op = "list"
	Delete    Op = "delete"
	FreeBytes Op = "free"
)

// ErrInjected is what a Fault without an error of its own reports.
var ErrInjected = errors.New("injected fault")

// Effect is what becomes of an operation that is made to fail.
type Effect int

// The effects. The caller hears an error in each case.
const (
	Lost    Effect = iota // nothing happens
	Done                  // it happens, the reply is lost
	Delayed               // it happens when Deliver is called (Create only)
)

// Fault makes matching calls fail.
type Fault struct {
	Op     Op     // empty: any
	Name   string // pattern of path.Match for name or prefix; empty: any
	Nth    int    // fails the nth matching call, from 1; 0: every one
	Err    error  // nil: ErrInjected
	Effect Effect
	// AfterBytes lets a Put write so many bytes before it fails (with Lost).
	AfterBytes int64
}

var _ store.Store = (*Faulty)(nil)

// Faulty is a store whose calls fail on schedule.
type Faulty struct {
	st store.Store

	mu      sync.Mutex
	faults  []scheduled
	delayed []func(context.Context) error
	calls   map[Op]int
}

type scheduled struct {
	Fault
	matched int
}

// Wrap gives a store that fails as the faults say; they count separately and the
// first that fires wins.
func Wrap(st store.Store, faults ...Fault) *Faulty {
	f := &Faulty{st: st, calls: map[Op]int{}}
	f.Set(faults...)
	return f
}

// Set replaces all faults; counting begins anew.
func (f *Faulty) Set(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
	for _, fault := range faults {
		f.faults = append(f.faults, scheduled{Fault: fault})
	}
}

// Calls is how often an operation was called.
func (f *Faulty) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Deliver lets delayed operations happen, oldest first: requests that were on their
// way while their senders gave up. What they come to is nobody's business any more.
func (f *Faulty) Deliver(ctx context.Context) {
	f.mu.Lock()
	delayed := f.delayed
	f.delayed = nil
	f.mu.Unlock()
	for _, do := range delayed {
		_ = do(ctx) // the sender has stopped listening
	}
}

// fires notes a call and gives the fault that is due.
func (f *Faulty) fires(op Op, name string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	var due *Fault
	for i := range f.faults {
		s := &f.faults[i]
		if !s.matches(op, name) {
			continue
		}
		s.matched++
		if due == nil && (s.Nth == 0 || s.Nth == s.matched) {
			due = &s.Fault
		}
	}
	if due == nil {
		return Fault{}, false
	}
	fault := *due
	if fault.Err == nil {
		fault.Err = ErrInjected
	}
	return fault, true
}

func (s *scheduled) matches(op Op, name string) bool {
	if s.Op != "" && s.Op != op {
		return false
	}
	if s.Name == "" {
		return true
	}
	ok, err := path.Match(s.Name, name)
	if err != nil {
		panic("storetest: bad pattern " + s.Name)
	}
	return ok
}

// apply runs an operation under the fault that is due for it, if any.
func (f *Faulty) apply(ctx context.Context, op Op, name string, do func(context.Context) error) error {
	fault, ok := f.fires(op, name)
	if !ok {
		return do(ctx)
	}
	switch fault.Effect {
	case Done:
		if err := do(ctx); err != nil {
			return err
		}
	case Delayed:
		f.mu.Lock()
		f.delayed = append(f.delayed, do)
		f.mu.Unlock()
	}
	return fault.Err
}

// Create implements [store.Store].
func (f *Faulty) Create(ctx context.Context, name string, data []byte) error {
	return f.apply(ctx, Create, name, func(ctx context.Context) error { return f.st.Create(ctx, name, data) })
}

// Put implements [store.Store].
func (f *Faulty) Put(ctx context.Context, name string, write func(io.Writer) error) (store.Object, error) {
	fault, ok := f.fires(Put, name)
	if !ok {
		return f.st.Put(ctx, name, write)
	}
	if fault.Effect == Done {
		if object, err := f.st.Put(ctx, name, write); err != nil {
			return object, err
		}
		return store.Object{}, fault.Err
	}
	return f.st.Put(ctx, name, func(w io.Writer) error {
		if err := write(&shortWriter{w: w, left: fault.AfterBytes, err: fault.Err}); err != nil {
			return err
		}
		return fault.Err // the content was shorter than the limit
	})
}

// shortWriter fails after some bytes, as a disk does that runs full.
type shortWriter struct {
	w    io.Writer
	left int64
	err  error
}

func (s *shortWriter) Write(p []byte) (int, error) {
	if int64(len(p)) <= s.left {
		s.left -= int64(len(p))
		return s.w.Write(p)
	}
	n, err := s.w.Write(p[:s.left])
	s.left = 0
	if err == nil {
		err = s.err
	}
	return n, err
}

// Open implements [store.Store].
func (f *Faulty) Open(ctx context.Context, name string) (file store.File, size int64, err error) {
	err = f.apply(ctx, Open, name, func(ctx context.Context) error {
		file, size, err = f.st.Open(ctx, name)
		return err
	})
	if err != nil && file != nil {
		file, err = nil, errors.Join(err, file.Close())
	}
	return file, size, err
}

// List implements [store.Store].
func (f *Faulty) List(ctx context.Context, prefix string) (objects []store.Object, err error) {
	err = f.apply(ctx, List, prefix, func(ctx context.Context) error {
		objects, err = f.st.List(ctx, prefix)
		return err
	})
	if err != nil {
		return nil, err
	}
	return objects, nil
}

// Delete implements [store.Store].
func (f *Faulty) Delete(ctx context.Context, name string) error {
	return f.apply(ctx, Delete, name, func(ctx context.Context) error { return f.st.Delete(ctx, name) })
}

// FreeBytes implements [store.Store].
func (f *Faulty) FreeBytes(ctx context.Context) (n int64, known bool, err error) {
	err = f.apply(ctx, FreeBytes, "", func(ctx context.Context) error {
		n, known, err = f.st.FreeBytes(ctx)
		return err
	})
	return n, known, err
}

// Location implements [store.Store].
func (f *Faulty) Location() string { return f.st.Location() }
