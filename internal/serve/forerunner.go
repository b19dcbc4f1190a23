package serve

import (
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/launch"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/wire"
)

// forerunners are the islands' processes that were started before the first era: one of
// them brings the first weights, the others wait for them. Each has the incarnation that
// the coordinator will give its island first, and goes on as that.
type forerunners struct {
	op    *opened
	opts  Options
	given chan error // one has ended too often

	mu      sync.Mutex
	living  map[string]*forerunner // by island
	ends    map[string]int
	handing bool // the era takes them over: none is started again
}

// forerunner is one of them. Whoever it concerns is told of its end.
type forerunner struct {
	process *launch.Process

	mu    sync.Mutex
	ended func(why string)
	over  bool
	why   string
}

func newForerunners(op *opened, o Options) *forerunners {
	return &forerunners{op: op, opts: o, given: make(chan error, 1), living: map[string]*forerunner{}, ends: map[string]int{}}
}

// start starts every island, unless all come from outside.
func (f *forerunners) start() error {
	if f.opts.Outside {
		return nil
	}
	for i := range f.op.run.Islands {
		if err := f.launch(i); err != nil {
			return err
		}
	}
	return nil
}

func (f *forerunners) launch(i int) error {
	name, incarnation := f.op.run.Islands[i].Name, uint64(i+1)
	join := wire.Join{Address: f.op.address, RunID: f.op.runID, Era: f.op.era, Island: name, Incarnation: incarnation, Secret: f.op.secret}
	args, note := islandArgs(f.opts, f.op.run, f.op.runID, name)
	if note != "" && f.opts.Emit != nil {
		f.opts.Emit(ledger.Note{At: time.Now(), Text: note})
	}
	r := &forerunner{ended: func(why string) { f.again(i, why) }}
	f.mu.Lock() // its end waits until it is known
	defer f.mu.Unlock()
	p, err := launch.Start(launch.Spec{
		Args: args, Join: join.String(), Log: filepath.Join(f.opts.Dir, "logs", fmt.Sprintf("%s-%d.log", name, incarnation)),
	}, r.end)
	if err != nil {
		return err
	}
	r.process = p
	f.living[name] = r
	return nil
}

// again starts an island anew that has ended before the run began, a few times.
func (f *forerunners) again(i int, why string) {
	name := f.op.run.Islands[i].Name
	f.mu.Lock()
	f.ends[name]++
	n, handing := f.ends[name], f.handing
	delete(f.living, name)
	f.mu.Unlock()
	if handing {
		return
	}
	var err error
	if n > f.op.run.Limits.Restarts {
		err = fmt.Errorf("%w: island %s ended %d times before the run had its first weights; last: %s", ErrRunFailed, name, n, why)
	} else {
		if f.opts.Emit != nil {
			f.opts.Emit(ledger.Note{At: time.Now(), Text: fmt.Sprintf("island %s ended before the run had its first weights: %s", name, why)})
		}
		err = f.launch(i)
	}
	if err != nil {
		select {
		case f.given <- err:
		default:
		}
	}
}

// take hands over the process of an island's first incarnation, or nil. Its end is told to ended.
func (f *forerunners) take(name string, incarnation uint64, ended func(why string)) *launch.Process {
	if f == nil || int(incarnation) > len(f.op.run.Islands) || f.op.run.Islands[incarnation-1].Name != name {
		return nil
	}
	f.mu.Lock()
	r := f.living[name]
	delete(f.living, name)
	f.handing = true
	f.mu.Unlock()
	if r == nil {
		return nil
	}
	r.concern(ended)
	return r.process
}

// waits: the island's process is here before the coordinator has got round to its launch.
func (f *forerunners) waits(name string, incarnation uint64) bool {
	if f == nil || incarnation == 0 || int(incarnation) > len(f.op.run.Islands) || f.op.run.Islands[incarnation-1].Name != name {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.living[name] != nil
}

// end ends those that nobody has taken.
func (f *forerunners) end() {
	if f == nil {
		return
	}
	f.mu.Lock()
	f.handing = true
	var wg sync.WaitGroup
	for _, r := range f.living {
		wg.Go(func() { r.process.Stop(0) })
	}
	f.mu.Unlock()
	wg.Wait()
}

// end is called once, when the process has ended.
func (r *forerunner) end(why string) {
	r.mu.Lock()
	r.over, r.why = true, why
	ended := r.ended
	r.mu.Unlock()
	ended(why)
}

// concern says who is to be told of its end from now on; at once if it is over.
func (r *forerunner) concern(ended func(why string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = ended
	if r.over {
		go ended(r.why)
	}
}
