package engine

import (
	"runtime"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
)

// The danger: a buffer that the arithmetic does not know. What New, AdamW and the
// buffers of a step allocate must be what MemoryOf says, but for half a MiB of small
// objects and rounding; every vector of a token is larger here.
func TestMemoryOfIsWhatIsAllocated(t *testing.T) {
	nano, err := model.Preset("ling-nano")
	if err != nil {
		t.Fatal(err)
	}
	nano.Layers = 2
	for name, change := range map[string]func(*model.Config){
		"plain":        func(*model.Config) {},
		"q/k norm":     func(c *model.Config) { c.QKNorm = true },
		"dense":        func(c *model.Config) { c.DenseLayers, c.DenseFFN = 1, 700 },
		"wide experts": func(c *model.Config) { c.TopK, c.SharedExperts, c.Vocab = 5, 0, 1000 },
		"narrow":       func(c *model.Config) { c.Heads, c.KVHeads, c.NormHead = 1, 1, false },
	} {
		cfg := nano
		change(&cfg)
		const rows, seq, threads = 32, 128, 1
		got := allocated(func() {
			e, err := New(cfg, Options{Threads: threads})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			NewAdamW(cfg, AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8}, threads)
			e.reserve(shape{rows, seq})
		})
		want := MemoryOf(cfg, rows, seq, threads).Total() - threads*workspaceBytes // no product has run
		if more := got - want; more < 0 || more > 1<<19 {
			t.Errorf("%s: %d bytes were allocated, %d are announced", name, got, want)
		}
	}
}

// A batch of more tokens than a pass holds takes no more than a pass.
func TestMemoryOfLargeBatches(t *testing.T) {
	nano, err := model.Preset("ling-nano")
	if err != nil {
		t.Fatal(err)
	}
	one, many := MemoryOf(nano, groupTokens/128, 128, 2), MemoryOf(nano, 100*groupTokens/128, 128, 2)
	if one != many {
		t.Errorf("%+v and %+v", one, many)
	}
}

// allocated is the number of bytes that f allocates, garbage included.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}
