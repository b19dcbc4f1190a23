package serve

import "sync"

// askedFor is what incarnations were asked to save and have not stored yet: nothing else is
// taken from them.
type askedFor struct {
	mu sync.Mutex
	of map[uint64]map[string]*due // by incarnation and object
}

// due is one object that somebody was asked for.
type due struct {
	busy bool // it is coming in
}

// ask notes that an incarnation is asked for objects. What it was asked for before nobody waits
// for any more.
func (a *askedFor) ask(incarnation uint64, objects ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[uint64]map[string]*due{}
	}
	all := map[string]*due{}
	for _, object := range objects {
		all[object] = &due{}
	}
	a.of[incarnation] = all
}

// begin takes up an object that comes in, one at a time, or says why it is not taken. Done ends
// that: what is stored is not asked for any more.
func (a *askedFor) begin(incarnation uint64, object string) (done func(stored bool), why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.of[incarnation]
	d := all[object]
	switch {
	case d == nil:
		return nil, "is not what the run waits for from this incarnation"
	case d.busy:
		return nil, "is coming in already"
	}
	d.busy = true
	return func(stored bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if d.busy = false; stored && all[object] == d {
			delete(all, object)
		}
	}, ""
}

// forget: the incarnation is gone.
func (a *askedFor) forget(incarnation uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.of, incarnation)
}
