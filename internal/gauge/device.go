package gauge

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/mistura-project/mistura/internal/chip"
)

// How long a measurement of a device takes at most, but for one run that is under way.
const (
	Budget      = 90 * time.Second
	QuickBudget = 12 * time.Second
)

// Trying is what the measurements of a device have in common.
type Trying struct {
	Quick   bool
	Budget  time.Duration                       // from now on
	Repeats int                                 // of a key, at most; 0: 25
	Tell    func(done, of int, before chip.Key) // called before each key; nil: nobody listens
}

// Device is what was found out of a device.
type Device struct {
	Name        string // as it calls itself; empty: unknown
	Software    string // what measured, in words
	Kind        string // as PyTorch calls it; cpu for the native engine
	MemoryBytes int64  // 0: unknown
	Devices     int    // of this host; 0: unknown
	Arch        string // empty: unknown
	Collectives string // library; empty: none took part
	Visible     string // variable that hides devices; empty: none is known
}

// Left is what was not measured, and why.
type Left struct {
	Key chip.Key
	Why string
}

// Tried is what came out.
type Tried struct {
	Device Device
	Trials []chip.Trial
	Left   []Left
}

// Repeats of a measurement: at least least, and more while its share of the time lasts.
const (
	leastRepeats = 3
	mostRepeats  = 25
	// shortest is how long a repeat lasts at least: shorter ones measure the clock.
	shortest = 10 * time.Millisecond
)

// repeat times runs of one thing for about a share of time: seconds of a run, for each
// repeat. The first run does not count, it touches memory. why is not empty where runs
// take too long for that share. The twin in Python is repeat in python/mistura/measure.py.
func (o Trying) repeat(ctx context.Context, run func(), share time.Duration) (seconds []float64, why string, err error) {
	began := time.Now()
	once := timed(run, 1)
	if once <= leastRepeats*share {
		once = timed(run, 1)
	}
	if once > share {
		return nil, fmt.Sprintf("one run takes %.2g s, for which there is no time", once.Seconds()), ctx.Err()
	}
	runs := 1 + int(shortest/once)
	for len(seconds) < leastRepeats || len(seconds) < cmp.Or(o.Repeats, mostRepeats) && time.Since(began) < share {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		seconds = append(seconds, timed(run, runs).Seconds()/float64(runs))
	}
	return seconds, "", ctx.Err()
}

// timed is how long so many runs take; never 0.
func timed(run func(), runs int) time.Duration {
	began := time.Now()
	for range runs {
		run()
	}
	return max(time.Since(began), time.Nanosecond)
}

// each tries the keys in turn, each in its share of the time that is left.
func (t *Tried) each(ctx context.Context, o Trying, keys []chip.Key, prepare func(chip.Key) (run, done func(), err error)) error {
	until := time.Now().Add(o.Budget)
	for i, k := range keys {
		if o.Tell != nil {
			o.Tell(i, len(keys), k)
		}
		left := time.Until(until)
		if left <= 0 {
			t.Left = append(t.Left, Left{k, "no time was left"})
			continue
		}
		run, done, err := prepare(k)
		if err != nil {
			return err
		}
		seconds, why, err := o.repeat(ctx, run, left/time.Duration(len(keys)-i))
		done()
		switch {
		case err != nil:
			return err
		case why != "":
			t.Left = append(t.Left, Left{k, why})
		default:
			t.Trials = append(t.Trials, chip.Trial{Key: k, Seconds: seconds})
		}
	}
	return nil
}
