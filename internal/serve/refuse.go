package serve

import (
	"bytes"
	"fmt"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/wire"
)

// refusal says why an island that says hello cannot train in a run, or nothing.
func refusal(run runfile.Run, kernelSet string, hello *wire.Hello) string {
	native := hello.Engine == "" || hello.Engine == runfile.Native
	switch {
	case native && run.Model.Foreign():
		return "the run's model is not one of ours, so that only a trainer of its owner's can train it (engine: external)"
	case native && hello.KernelSet != kernelSet:
		return fmt.Sprintf("kernel set %q, this run computes with %q (D2)", hello.KernelSet, kernelSet)
	case hello.OwnData && !run.Data.Own:
		return "the trainer brings its own data, but this run hands out its samples; take them (batches or lease), or start a run with data.own: true"
	}
	return ""
}

// anotherModel says that an island which has not noticed itself trains another model than
// the run's, or nothing. Islands over several hosts are compared piece by piece.
func (h *host) anotherModel(incarnation uint64) string {
	h.crew.mu.Lock()
	hello := h.crew.hellos[incarnation]
	h.crew.mu.Unlock()
	return otherDigest(h.run, hello)
}

func otherDigest(run runfile.Run, hello *wire.Hello) string {
	got, want := hello.GetTableDigest(), fragment.TableDigest(run.Table())
	if len(got) == 0 || bytes.Equal(got, want) {
		return ""
	}
	return fmt.Sprintf("it trains another model: its parameters have the digest %.6x…, those of the run %.6x… (names and shapes)", got, want)
}
