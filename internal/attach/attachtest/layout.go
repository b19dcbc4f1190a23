package attachtest

import (
	"os"

	"github.com/mistura-project/mistura/internal/attach"
)

// Tensor is a tensor of the run's model.
type Tensor struct {
	Name  string
	Shape []int
	State bool
}

// Layout says what each rank of a trainer holds of a tensor.
type Layout func(rank, world int, t Tensor) (offset, extent []int, replica int)

// Replicated: every rank holds everything, and the first sends it.
func Replicated(rank, _ int, t Tensor) (offset, extent []int, replica int) {
	return make([]int, len(t.Shape)), append([]int{}, t.Shape...), rank
}

// Rows are shared out unevenly over the ranks; what has only one is replicated.
func Rows(rank, world int, t Tensor) (offset, extent []int, replica int) {
	if len(t.Shape) == 0 || t.Shape[0] < world {
		return Replicated(rank, world, t)
	}
	offset, extent, _ = Replicated(0, 1, t)
	from := t.Shape[0] * rank * (rank + 1) / (world * (world + 1)) // later ranks hold more
	to := t.Shape[0] * (rank + 1) * (rank + 2) / (world * (world + 1))
	from, to = max(from, rank), max(to, rank+1)
	if rank == world-1 {
		to = t.Shape[0]
	}
	offset[0], extent[0] = from, to-from
	return offset, extent, 0
}

// Hellos are those of a trainer of so many ranks on one host.
func Hellos(tensors []Tensor, world int, layout Layout) []attach.Hello {
	out := make([]attach.Hello, world)
	for rank := range out {
		h := attach.Hello{
			Protocol: attach.Protocol, Version: "test", Rank: rank, World: world, HostRank: rank, HostWorld: world, Parts: 1,
			PID: os.Getpid(), Engine: "external", Device: "test",
		}
		for _, t := range tensors {
			h.Tensors = append(h.Tensors, attach.Tensor{Name: t.Name, Shape: t.Shape, State: t.State})
			offset, extent, replica := layout(rank, world, t)
			h.Pieces = append(h.Pieces, attach.Piece{Name: t.Name, Offset: offset, Extent: extent, Replica: replica})
		}
		out[rank] = h
	}
	return out
}
