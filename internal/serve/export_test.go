package serve

import (
	"time"

	"github.com/mistura-project/mistura/internal/store"
)

// WithFaults makes a run go through wrap to its store, and try again soon.
func (o *Options) WithFaults(wrap func(store.Store) store.Store) {
	o.wrap, o.retry = wrap, 10*time.Millisecond
}

// Hasty makes a run give a folder up at once that another process has.
func (o *Options) Hasty() { o.claim = time.Nanosecond }
