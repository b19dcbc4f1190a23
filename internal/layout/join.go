package layout

import "slices"

// Join makes one box of two of a tensor that follow each other and lie side by side, in the order
// of their first. The ranks of a host hold neighbouring shards of each tensor, so that it need not
// name each of them: a model of 17,000 tensors on 16 ranks is 17,000 boxes. What is joined covers
// the same elements as often; boxes that contradict themselves are left as they are.
func Join(boxes []Box) []Box {
	var out []Box
	last := map[int]int{} // by tensor: place in out
	for _, b := range boxes {
		at, seen := last[b.Tensor]
		if d := -1; seen {
			if d = beside(out[at], b); d >= 0 {
				out[at].Extent = slices.Clone(out[at].Extent)
				out[at].Extent[d] += b.Extent[d]
				continue
			}
		}
		last[b.Tensor] = len(out)
		out = append(out, b)
	}
	return out
}

// beside is the dimension in which b goes on where a ends, the others being equal; -1: it does not.
func beside(a, b Box) int {
	if len(a.Offset) != len(b.Offset) || len(a.Extent) != len(a.Offset) || len(b.Extent) != len(b.Offset) {
		return -1
	}
	found := -1
	for d := range a.Offset {
		end := a.Offset[d] + a.Extent[d]
		switch {
		case a.Offset[d] < 0 || a.Extent[d] <= 0 || b.Extent[d] <= 0 || end+b.Extent[d] < end:
			return -1
		case a.Offset[d] == b.Offset[d] && a.Extent[d] == b.Extent[d]:
		case found < 0 && b.Offset[d] == end:
			found = d
		default:
			return -1
		}
	}
	return found
}
