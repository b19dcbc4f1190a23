package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mistura-project/mistura/internal/runfile"
)

// maxIslands is the most that one command starts.
const maxIslands = 1024

// islandsFlag is a number of islands, or the pace of each.
type islandsFlag struct {
	text  string
	count int       // when a number was given
	paces []float64 // when paces were given
}

func (f *islandsFlag) Set(s string) error {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > maxIslands {
			return usage("", s, fmt.Sprintf("must be from 1 to %d islands", maxIslands), "give a number such as 2, or a pace for each such as 1,0.5")
		}
		*f = islandsFlag{text: s, count: n}
		return nil
	}
	var paces []float64
	for field := range strings.SplitSeq(s, ",") {
		pace, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil || !(pace > 0 && pace <= 1) {
			return usage("", s, "is neither a number of islands nor a list of paces above 0 and at most 1", "give 2, or 1,0.5")
		}
		paces = append(paces, pace)
	}
	if len(paces) > maxIslands {
		return usage("", s, fmt.Sprintf("has %d islands, the most is %d", len(paces), maxIslands), "give fewer")
	}
	*f = islandsFlag{text: s, paces: paces}
	return nil
}

func (f *islandsFlag) String() string { return f.text }
func (f *islandsFlag) Type() string   { return "number or paces" }

// apply gives the islands that the flag asks for. Islands that are there keep their
// names and threads, so that a resumed run finds their states; with a number they
// keep their paces too.
func (f *islandsFlag) apply(have []runfile.Island) []runfile.Island {
	n := f.count
	if f.paces != nil {
		n = len(f.paces)
	}
	out := make([]runfile.Island, n)
	taken := map[string]bool{}
	for _, island := range have {
		taken[island.Name] = true
	}
	for i := range out {
		if i < len(have) {
			out[i] = have[i]
		} else {
			out[i] = runfile.Island{Name: freeName(i+1, taken), Pace: 1}
		}
		if f.paces != nil {
			out[i].Pace = f.paces[i]
		}
	}
	return out
}

// freeName is island-N, or the next that nobody has.
func freeName(n int, taken map[string]bool) string {
	for {
		name := fmt.Sprintf("island-%d", n)
		if !taken[name] {
			taken[name] = true
			return name
		}
		n++
	}
}
