package plan

import "fmt"

// Exchanging says what islands of a run exchange, and through which processes.
type Exchanging struct {
	Parameters int64 // of the model
	Fragments  int   // of about equal size; 0: 1
	Islands    int
	Syncers    int // that share the fragments; 0: 1
	Hosts      int // of an island; 0: 1
	Ranks      int // of its trainer on each host; 0: 1
	// Whole ranks each take and keep the whole model, as in plain data parallelism; others
	// give and take what they own.
	Whole bool
	// Gate: islands show at the door what they compute.
	Gate bool
}

// HostMemory is the memory of hosts in bytes, by parts: of each host of an island, and of
// a syncer's.
type HostMemory struct {
	Island []Told `json:"island"`
	Syncer []Told `json:"syncer"`
}

// Bytes of a process of ours that do not depend on the model, and what Go's collector lets the
// heap grow by; of streams, and of payloads that are kept for those to come: packages machine,
// transport and footprint, which a test of the latter holds these against.
const (
	processBytes  = 16 << 20
	processGrowth = 0.05
	streamsBytes  = 8 << 20
	roomPayloads  = 4
)

// HostMemory counts what an exchange keeps in the memory of hosts, at the worst moment: every
// fragment is under way while a captured state is written. On each of an island's
// hosts stand what the run and its ranks had at the last exchange (anchor and sent copy), for
// corrections need all of it, and its part of what is its own. It counts what package
// footprint does of a run that is about to start.
func (x Exchanging) HostMemory() HostMemory {
	x.Fragments, x.Syncers, x.Hosts, x.Ranks = max(1, x.Fragments), max(1, x.Syncers), max(1, x.Hosts), max(1, x.Ranks)
	return HostMemory{Island: x.island(), Syncer: x.syncer()}
}

// hosted collects parts.
type hosted []Told

// model adds some bytes of each parameter.
func (h *hosted) model(name string, n int64, bytes float64, times string) {
	*h = append(*h, Told{Name: name, Value: bytes * float64(n), Formula: fmt.Sprintf("%s × %d parameters", times, n)})
}

// process adds what a process takes beside its data.
func (h *hosted) process() {
	live := h.sum()
	*h = append(*h, Told{Name: "process", Value: processBytes + processGrowth*live, Formula: fmt.Sprintf("%d MiB + %g × what lives", processBytes>>20, processGrowth)})
}

func (h hosted) sum() float64 { return Sum(h) }

// Sum adds up what is told.
func Sum(told []Told) float64 {
	n := 0.0
	for _, t := range told {
		n += t.Value
	}
	return n
}

// fragments adds fragments that are worked on, and that come in.
func (h *hosted) fragments(x Exchanging, worked int) {
	n := (x.Parameters + int64(x.Fragments) - 1) / int64(x.Fragments)
	*h = append(*h, Told{Name: "fragments at work", Value: float64((worked+roomPayloads)*4) * float64(n),
		Formula: fmt.Sprintf("(%d that are worked on + %d payloads) × 4 bytes × %d parameters of a fragment", worked, roomPayloads, n)})
}

func (x Exchanging) island() []Told {
	var h hosted
	part := 1 / float64(x.Hosts)
	h.model("anchor", x.Parameters, 4, "4 bytes")
	h.model("sent copy and answers", x.Parameters, 8, "2 × 4 bytes")
	h.model("contributions under way", x.Parameters, 4*part, fmt.Sprintf("4 bytes / %d hosts", x.Hosts))
	h.model("state that is saved", x.Parameters, 12*part, fmt.Sprintf("(4 bytes of weights + 8 of moments) / %d hosts", x.Hosts))
	h.fragments(x, 2)
	h = append(h, Told{Name: "streams", Value: streamsBytes, Formula: fmt.Sprintf("%d MiB", streamsBytes>>20)})
	h.process()
	if x.Whole {
		h.model("shared with ranks", x.Parameters, 4*float64(x.Ranks+1), fmt.Sprintf("(%d ranks that take + 1 that gives) × 4 bytes", x.Ranks))
	} else {
		h.model("shared with ranks", x.Parameters, 8*part, fmt.Sprintf("2 × 4 bytes, taken and given, / %d hosts", x.Hosts))
	}
	return h
}

func (x Exchanging) syncer() []Told {
	var h hosted
	own := (x.Parameters + int64(x.Syncers) - 1) / int64(x.Syncers)
	h.model("parameters and outer momentum", own, 8, "2 × 4 bytes")
	h.model("checkpoint that is written", own, 8, "2 × 4 bytes")
	h.model("contributions", own, 4*float64(x.Islands), fmt.Sprintf("%d islands × 4 bytes", x.Islands))
	h.model("answers", own, 2*float64(x.Islands), fmt.Sprintf("%d islands × 4 bytes / 2, as they leave", x.Islands))
	if x.Gate {
		h.model("weights for the gate", own, 8, "2 × 4 bytes, as kept and on their way")
	}
	h.fragments(x, 4)
	h.process()
	return h
}
