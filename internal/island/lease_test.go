package island

import (
	"io"
	"log/slog"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/wire"
)

// The queue hands out what was put in, in that order, whatever the pieces; never first
// and second tries at once.
func TestLeasesAreAQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type item struct {
			sample uint64
			retry  bool
		}
		var l leases
		var want []item
		var granted int64
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				from := rapid.Int64Range(0, 1000).Draw(t, "from")
				n := rapid.Int64Range(-2, 9).Draw(t, "n")
				retry := rapid.Bool().Draw(t, "retry")
				l.add(span{from, from + n, retry})
				for s := from; s < from+n; s++ {
					want = append(want, item{uint64(s), retry})
					granted++
				}
			},
			"next": func(t *rapid.T) {
				n := rapid.IntRange(0, 12).Draw(t, "n")
				got, retry := l.next(nil, int64(n))
				for i, s := range got {
					if want[i] != (item{s, retry}) {
						t.Fatalf("%v, second try %v; want %v", got, retry, want)
					}
				}
				want = want[len(got):]
				if len(got) < n && len(want) > 0 && len(got) > 0 && want[0].retry == retry {
					t.Fatalf("%d of %d, although %v goes on", len(got), n, want[0])
				}
			},
			"clear": func(*rapid.T) {
				l.clear()
				want = nil
			},
			"": func(t *rapid.T) {
				if l.left() != int64(len(want)) || l.granted != granted {
					t.Fatalf("%d left, want %d; %d granted, want %d", l.left(), len(want), l.granted, granted)
				}
			},
		})
	})
}

// Danger: a lease is lost with a broken stream, a later one arrives, and the learner's
// positions mean other samples to it than to the coordinator (S2). Whatever is lost,
// once the coordinator repeats the end of the lease, the order of samples is the one
// that was granted.
func TestLeasesSurviveABrokenStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &runner{learner: &Learner{}, asides: newAsides(t.Context(), false), log: slog.New(slog.NewTextHandler(io.Discard, nil))}
		var granted, trained []uint64 // by position
		sent := 0                     // positions that the coordinator knows are trained
		message := func(from int) *wire.Lease {
			m := &wire.Lease{More: true, Position: uint64(from)}
			for _, s := range granted[from:] {
				m.Ranges = append(m.Ranges, &wire.Range{From: s, To: s + 1})
			}
			return m
		}
		lost := false
		t.Repeat(map[string]func(*rapid.T){
			"grant": func(t *rapid.T) {
				from := len(granted)
				start := uint64(rapid.IntRange(0, 1000).Draw(t, "start"))
				for i := range rapid.IntRange(1, 6).Draw(t, "n") {
					granted = append(granted, start+uint64(i))
				}
				if lost = lost || rapid.Bool().Draw(t, "lost"); !lost {
					r.lease(message(from))
				}
			},
			"a grant after one that was lost": func(t *rapid.T) {
				if !lost {
					t.Skip()
				}
				from := len(granted)
				granted = append(granted, 5000)
				r.lease(message(from))
			},
			"back on its stream": func(*rapid.T) {
				r.lease(message(sent))
				lost = false
			},
			"train": func(t *rapid.T) {
				trained, _ = r.learner.leases.next(trained, int64(rapid.IntRange(0, 5).Draw(t, "n")))
			},
			"progress is heard": func(t *rapid.T) { sent = rapid.IntRange(sent, len(trained)).Draw(t, "position") },
			"": func(t *rapid.T) {
				if len(trained) > len(granted) || !slices.Equal(trained, granted[:len(trained)]) {
					t.Fatalf("trained %v of %v", trained, granted)
				}
			},
		})
		r.lease(message(sent))
		trained, _ = r.learner.leases.next(trained, 1<<20)
		if !slices.Equal(trained, granted) {
			t.Fatalf("trained %v, granted %v", trained, granted)
		}
	})
}

func TestLeaseMessages(t *testing.T) {
	r := &runner{learner: &Learner{}, asides: newAsides(t.Context(), false), log: slog.New(slog.NewTextHandler(io.Discard, nil)), asked: true}
	r.lease(&wire.Lease{More: true, Ranges: []*wire.Range{{From: 0, To: 4}}})
	if r.asked || r.dry || r.learner.Left() != 4 {
		t.Errorf("granted: asked %v, dry %v, %d left", r.asked, r.dry, r.learner.Left())
	}
	r.lease(&wire.Lease{})
	if !r.dry || r.learner.Left() != 4 {
		t.Errorf("no more: dry %v, %d left", r.dry, r.learner.Left())
	}
	r.lease(&wire.Lease{More: true, Position: 4, Ranges: []*wire.Range{{From: 9, To: 10}}})
	if r.dry || r.learner.Left() != 5 {
		t.Errorf("more after all: dry %v, %d left", r.dry, r.learner.Left())
	}
	r.lease(&wire.Lease{Revoke: true})
	if !r.dry || r.learner.Left() != 0 {
		t.Errorf("revoked: dry %v, %d left", r.dry, r.learner.Left())
	}
}
