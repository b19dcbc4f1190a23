package serve

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/syncer"
	"github.com/mistura-project/mistura/internal/wire"
)

// bank holds the global parameters and outer momentum of every fragment, in
// fp32, and the contributions that wait to be merged. The syncer's queue is its
// only writer; contributions come in from the peers' goroutines.
type bank struct {
	fragments    []fragment.Fragment
	step         outer.Step
	sampleTokens uint64
	ownData      bool // islands bring their own

	theta    [][]float32 // Θ by fragment
	momentum [][]float32 // b by fragment
	version  []uint64
	stamp    []int64  // tokens merged
	digest   [][]byte // SHA-256 of Θ's payload by fragment, nil while it is not known
	next     *merged  // computed, not yet visible

	reuse func(payload []byte) // takes memory of contributions that are done with; nil: nobody does

	mean  []float32 // memory of a merge's mean
	spare []float32 // memory of the next momentum

	mu    sync.Mutex // guards parts
	parts map[syncer.Key]outer.Part
}

// merged is a fragment's next value.
type merged struct {
	fragment        int
	theta, momentum []float32
	digest          []byte // of theta's payload
}

func newBank(fragments []fragment.Fragment, step outer.Step, sampleTokens int) *bank {
	b := &bank{
		fragments: fragments, step: step, sampleTokens: uint64(sampleTokens), parts: map[syncer.Key]outer.Part{},
		version: make([]uint64, len(fragments)), stamp: make([]int64, len(fragments)), digest: make([][]byte, len(fragments)),
	}
	for _, f := range fragments {
		b.theta = append(b.theta, make([]float32, f.Size))
		b.momentum = append(b.momentum, make([]float32, f.Size))
	}
	return b
}

// load sets parameters and momentum from flat vectors in model order.
func (b *bank) load(theta, momentum []float32) {
	for p, f := range b.fragments {
		f.Gather(b.theta[p], theta)
		f.Gather(b.momentum[p], momentum)
		b.digest[p] = nil
	}
}

// flat copies parameters or momentum into one vector in model order.
func (b *bank) flat(parts [][]float32) []float32 {
	size := 0
	for _, f := range b.fragments {
		size += f.Size
	}
	out := make([]float32, size)
	for p, f := range b.fragments {
		f.Scatter(out, parts[p])
	}
	return out
}

// payload is a fragment's Θ as it goes over the wire, with its digest. Θ's memory is not
// written again once it can be seen, so that all who ask get the same bytes.
func (b *bank) payload(p int) (payload, digest []byte) {
	payload = wire.Bytes(b.theta[p])
	if b.digest[p] == nil {
		b.digest[p] = wire.Digest(payload)
	}
	return payload, b.digest[p]
}

// put takes a contribution's payload, which is the bank's from here on, and keeps it until
// it is merged or discarded. It returns what is wrong with it, or nothing. The first payload of a
// key stays: one that is sent again is the same.
func (b *bank) put(key syncer.Key, c *wire.Contribution, payload []byte) string {
	if key.Fragment < 0 || key.Fragment >= len(b.fragments) {
		return fmt.Sprintf("fragment %d does not exist", key.Fragment)
	}
	delta, err := wire.Floats(payload, b.fragments[key.Fragment].Size)
	if err != nil {
		return err.Error()
	}
	return b.keep(key, c, delta)
}

// keep is put for a payload that is decoded, of a fragment that exists.
func (b *bank) keep(key syncer.Key, c *wire.Contribution, delta []float32) string {
	f := b.fragments[key.Fragment]
	if len(c.TensorTokens) != len(f.Tensors) {
		return fmt.Sprintf("token counts of %d tensors, the fragment has %d", len(c.TensorTokens), len(f.Tensors))
	}
	if why := b.miscounted(c); why != "" {
		return why
	}
	part := outer.Part{Delta: delta}
	if name := firstNonFinite(f, part.Delta); name != "" {
		return fmt.Sprintf("tensor %s holds a value that is not finite", name)
	}
	for _, n := range c.TensorTokens {
		if n > c.Tokens {
			return fmt.Sprintf("a tensor claims %d tokens of %d", n, c.Tokens)
		}
		part.Tokens = append(part.Tokens, int64(n))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, there := b.parts[key]; !there {
		b.parts[key] = part
	}
	return ""
}

// maxOwnTokens is more than any contribution stands for.
const maxOwnTokens = 1 << 50

// miscounted says why the tokens of a contribution cannot be those of its samples. An
// island with data of its own trains whole batches of it: its tokens are what it says.
func (b *bank) miscounted(c *wire.Contribution) string {
	samples := c.ToPosition - c.FromPosition - c.Withheld
	switch {
	case b.ownData && c.Tokens > maxOwnTokens:
		return fmt.Sprintf("%d tokens are claimed, more than 2^50", c.Tokens)
	case b.ownData:
		return ""
	case c.Tokens != samples*b.sampleTokens || c.Tokens > math.MaxInt64:
		return fmt.Sprintf("%d tokens are claimed for sample positions %d to %d less %d withheld, of %d tokens each",
			c.Tokens, c.FromPosition, c.ToPosition, c.Withheld, b.sampleTokens)
	}
	return ""
}

func (b *bank) discard(key syncer.Key) {
	b.mu.Lock()
	part, there := b.parts[key]
	delete(b.parts, key)
	b.mu.Unlock()
	if there && b.reuse != nil {
		b.reuse(wire.Bytes(part.Delta))
	}
}

// merge computes the next value of a fragment (steps 4, 5 and 7 of the exchange)
// without making it visible.
func (b *bank) merge(m syncer.Merge) syncer.Merged {
	f := b.fragments[m.Fragment]
	var parts []outer.Part
	b.mu.Lock()
	for _, k := range m.Keys {
		if part, ok := b.parts[k]; ok {
			parts = append(parts, part)
		}
	}
	b.mu.Unlock()
	if len(parts) != len(m.Keys) {
		panic(fmt.Sprintf("serve: fragment %d: %d of %d contributions are here", m.Fragment, len(parts), len(m.Keys)))
	}
	b.mean = slices.Grow(b.mean[:0], f.Size)[:f.Size]
	outer.Mean(b.mean, f.Sizes, parts)
	b.next = &merged{fragment: m.Fragment, theta: slices.Clone(b.theta[m.Fragment]), momentum: append(b.spare[:0], b.momentum[m.Fragment]...)}
	b.spare = b.next.momentum
	b.advance(f, b.mean, m.Share)
	out := syncer.Merged{
		Finite: outer.Finite(b.next.theta) && outer.Finite(b.next.momentum),
		Norm:   outer.Norms(b.mean, []int{f.Size})[0],
	}
	b.next.digest, out.Digest = digests(b.next.theta, b.next.momentum)
	return out
}

// advance makes the outer step of the computed merge, tensor by tensor.
func (b *bank) advance(f fragment.Fragment, delta []float32, share float64) {
	from := 0
	for i, t := range f.Tensors {
		step, part := b.step, share
		if t.Kind == model.State {
			step, part = outer.StateStep(), 1
		}
		to := from + f.Sizes[i]
		step.Apply(b.next.theta[from:to], b.next.momentum[from:to], delta[from:to], part)
		from = to
	}
}

// install makes the computed merge the fragment's value.
func (b *bank) install(in syncer.Install) {
	b.spare = b.momentum[in.Fragment]
	b.theta[in.Fragment], b.momentum[in.Fragment], b.digest[in.Fragment] = b.next.theta, b.next.momentum, b.next.digest
	b.version[in.Fragment], b.stamp[in.Fragment] = in.Version, in.Stamp
	b.next = nil
}

func firstNonFinite(f fragment.Fragment, x []float32) string {
	if outer.Finite(x) {
		return ""
	}
	at := 0
	for i, n := range f.Sizes {
		if !outer.Finite(x[at : at+n]) {
			return f.Tensors[i].Name
		}
		at += n
	}
	return "unknown"
}

// digests are the SHA-256 of a fragment's Θ, and of Θ with its momentum behind it, in one pass.
func digests(theta, momentum []float32) (payload []byte, state string) {
	h := sha256.New()
	h.Write(wire.Bytes(theta))
	payload = h.Sum(nil)
	h.Write(wire.Bytes(momentum))
	return payload, hex.EncodeToString(h.Sum(nil))
}
