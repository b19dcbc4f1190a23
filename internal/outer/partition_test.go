package outer

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestPartition(t *testing.T) {
	tests := []struct {
		name      string
		sizes     []int
		fragments int
		want      [][]int
	}{
		{"one fragment takes all", []int{3, 1, 2}, 1, [][]int{{0, 1, 2}}},
		{"largest first", []int{1, 5, 4, 2}, 2, [][]int{{0, 1}, {2, 3}}},
		{"ties go to the lower tensor and fragment", []int{2, 2, 2, 2}, 2, [][]int{{0, 2}, {1, 3}}},
		{"fewer tensors than fragments", []int{7, 8}, 5, [][]int{{0}, {1}}},
		{"empty tensors fill no fragment twice", []int{0, 0, 0}, 3, [][]int{{0}, {1}, {2}}},
		{"no fragments asked for", []int{1, 2}, 0, [][]int{{0, 1}}},
		{"no tensors", nil, 3, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Partition(tt.sizes, tt.fragments)
			if !slices.EqualFunc(got, tt.want, slices.Equal[[]int]) {
				t.Errorf("Partition(%v, %d) = %v, want %v", tt.sizes, tt.fragments, got, tt.want)
			}
		})
	}
}

func TestPartitionCoversEveryTensorOnceAndIsNearlyBalanced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 50), 1, 8).Draw(t, "sizes")
		asked := rapid.IntRange(1, 4).Draw(t, "fragments")
		got := Partition(sizes, asked)
		if want := min(asked, len(sizes)); len(got) != want {
			t.Fatalf("%d fragments, want %d", len(got), want)
		}
		seen := make([]int, len(sizes))
		largest := 0
		for _, members := range got {
			if len(members) == 0 || !slices.IsSorted(members) {
				t.Fatalf("fragment %v is empty or out of order", members)
			}
			load := 0
			for _, m := range members {
				seen[m]++
				load += sizes[m]
			}
			largest = max(largest, load)
		}
		for tensor, n := range seen {
			if n != 1 {
				t.Fatalf("tensor %d is in %d fragments", tensor, n)
			}
		}
		if best := bestLoad(sizes, len(got)); 3*largest > 4*best {
			t.Fatalf("largest fragment %d, possible %d: above 4/3", largest, best)
		}
	})
}

// bestLoad is the slow twin: it tries every assignment.
func bestLoad(sizes []int, fragments int) int {
	loads := make([]int, fragments)
	var try func(tensor int) int
	try = func(tensor int) int {
		if tensor == len(sizes) {
			return slices.Max(loads)
		}
		best := int(^uint(0) >> 1)
		for f := range loads {
			loads[f] += sizes[tensor]
			best = min(best, try(tensor+1))
			loads[f] -= sizes[tensor]
		}
		return best
	}
	return try(0)
}
