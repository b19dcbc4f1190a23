package gauge

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/machine"
)

// Native is this machine's processor with the kernels of the native engine.
type Native struct {
	Trying
	Kernel  *kernel.Set
	Threads int // at least 1
}

// nativeFormat is the one in which the native engine computes. Others it emulates.
const nativeFormat = "fp32"

// Try measures. It ends early with the error of ctx.
func (n Native) Try(ctx context.Context) (Tried, error) {
	return n.try(ctx, processorShapes(n.Quick).keys([]string{nativeFormat}, nil))
}

func (n Native) try(ctx context.Context, keys []chip.Key) (Tried, error) {
	t := Tried{Device: Device{
		Name: machine.Processor(), Kind: "cpu", MemoryBytes: machine.MemoryBytes(),
		Software: fmt.Sprintf("native engine, kernels %s, %d threads, %s %s/%s", n.Kernel.Name(), n.Threads, runtime.Version(), runtime.GOOS, runtime.GOARCH),
	}}
	keys = slices.DeleteFunc(keys, func(k chip.Key) bool {
		needed := 2 * int64(slices.Max(k.Extents()))
		if memory := t.Device.MemoryBytes; k.Operation != chip.MemoryCopy || memory == 0 || needed <= memory/2 {
			return false // the others take some megabytes
		}
		t.Left = append(t.Left, Left{k, fmt.Sprintf("two of them are more than half of the memory, %d bytes", t.Device.MemoryBytes)})
		return true
	})
	p := engine.NewProducts(n.Kernel, n.Threads)
	defer p.Close()
	return t, t.each(ctx, n.Trying, keys, func(k chip.Key) (run, done func(), err error) { return n.prepare(p, k) })
}

// prepare gives what is to be run for a key, and what ends it.
func (n Native) prepare(p *engine.Products, k chip.Key) (run, done func(), err error) {
	x, done := k.Extents(), func() {}
	switch k.Operation {
	case chip.Product, chip.ProductGradient:
		return n.products(p, k.Operation == chip.Product, 1, x[0], x[1], x[2]), done, nil
	case chip.GroupedProduct, chip.GroupedGradient:
		return n.products(p, k.Operation == chip.GroupedProduct, x[0], x[1], x[2], x[3]), done, nil
	case chip.AttentionForward, chip.AttentionBackward:
		a, err := engine.NewAttention(n.Kernel, n.Threads, x[0], x[1], x[2])
		if err != nil {
			return nil, nil, err
		}
		if k.Operation == chip.AttentionForward {
			return a.Forward, a.Close, nil
		}
		a.Forward()
		return a.Backward, a.Close, nil
	case chip.MemoryCopy:
		return n.copies(x[0]), done, nil
	}
	return nil, nil, fmt.Errorf("%s is nothing that the native engine does", k.Operation)
}

// products of experts (or of one), forward or the gradient of their weights.
func (n Native) products(p *engine.Products, forward bool, experts, rows, out, in int) func() {
	x, y, w := values(experts*rows*in), values(experts*rows*out), values(experts*out*in)
	if forward {
		return func() { p.Linear(y, x, w, experts, rows, out, in) }
	}
	return func() { p.LinearGrad(w, y, x, experts, rows, out, in) }
}

// values are without meaning, around 0 so that sums stay small.
func values(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i%17-8) / 17
	}
	return x
}

// copies has every thread copy its part of so many bytes.
func (n Native) copies(bytes int) func() {
	from, to := make([]byte, bytes), make([]byte, bytes)
	for i := range from {
		from[i] = byte(i)
	}
	part := (bytes + n.Threads - 1) / n.Threads
	return func() {
		var all sync.WaitGroup
		for begin := 0; begin < bytes; begin += part {
			end := min(begin+part, bytes)
			all.Go(func() { copy(to[begin:end], from[begin:end]) })
		}
		all.Wait()
	}
}
