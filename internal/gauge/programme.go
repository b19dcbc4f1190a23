package gauge

import "github.com/mistura-project/mistura/internal/chip"

// shapes are what is tried of each kind of work: MxNxK of products, ExMxNxK of experts',
// TxHxD of attention, bytes of copies and collectives.
type shapes struct {
	products, experts, attention, copies, collectives []string
}

// processorShapes are of models that are trained on processors: 128 to 2,048 wide.
func processorShapes(quick bool) shapes {
	if quick {
		return shapes{
			products: []string{"512x512x128", "1024x512x512", "1024x1024x1024"}, experts: []string{"16x64x352x512"},
			attention: []string{"512x8x64"}, copies: []string{"64MiB"}, collectives: []string{"64KiB", "4MiB"},
		}
	}
	return shapes{
		products:  []string{"512x512x128", "512x128x512", "1024x512x512", "512x1408x512", "512x512x1408", "1024x2048x1024", "1024x1024x2048", "2048x2048x2048"},
		experts:   []string{"16x64x352x512", "8x128x512x512", "64x32x128x512"},
		attention: []string{"512x8x64", "1024x8x64", "2048x16x64"}, copies: []string{"256MiB"},
		collectives: []string{"64KiB", "1MiB", "16MiB", "64MiB"},
	}
}

// acceleratorShapes are of published models of 7 to 70 billion parameters, whole and cut
// in four or eight: attention's projections, MLPs, latent attention, experts of Mixtral and
// DeepSeek-V2 Lite and V3.
func acceleratorShapes(quick bool) shapes {
	if quick {
		return shapes{
			products: []string{"4096x4096x4096", "4096x14336x4096", "8192x8192x8192"}, experts: []string{"32x512x2048x7168"},
			attention: []string{"4096x32x128"}, copies: []string{"1GiB"}, collectives: []string{"1MiB", "64MiB"},
		}
	}
	return shapes{
		products: []string{"4096x1024x4096", "4096x4096x1024", "4096x4096x4096", "4096x14336x4096", "4096x4096x14336", "4096x1536x7168", "4096x7168x2048",
			"8192x8192x8192", "8192x7168x8192", "8192x28672x8192"},
		experts:   []string{"8x1024x14336x4096", "32x512x2048x7168", "32x512x7168x2048", "64x384x1408x2048"},
		attention: []string{"4096x32x128", "8192x32x128", "4096x16x128"}, copies: []string{"64MiB", "1GiB"},
		collectives: []string{"64KiB", "1MiB", "16MiB", "256MiB", "1GiB"},
	}
}

// keys lists what is tried, for each number format and group of chips.
func (s shapes) keys(formats []string, groups []int) (all []chip.Key) {
	add := func(o chip.Operation, format string, group int, shapes []string) {
		for _, shape := range shapes {
			all = append(all, chip.Key{Operation: o, Format: format, Shape: shape, Group: group})
		}
	}
	add(chip.MemoryCopy, "", 0, s.copies)
	for _, format := range formats {
		add(chip.Product, format, 0, s.products)
		add(chip.ProductGradient, format, 0, s.products)
		add(chip.GroupedProduct, format, 0, s.experts)
		add(chip.GroupedGradient, format, 0, s.experts)
		add(chip.AttentionForward, format, 0, s.attention)
		add(chip.AttentionBackward, format, 0, s.attention)
	}
	for _, group := range groups {
		for _, o := range []chip.Operation{chip.AllReduce, chip.AllGather, chip.ReduceScatter, chip.AllToAll} {
			add(o, "", group, s.collectives)
		}
	}
	return all
}

// groupsOf are the sizes of group that are tried among ranks: powers of two, and all.
func groupsOf(ranks int) (groups []int) {
	for n := 2; n < ranks; n *= 2 {
		groups = append(groups, n)
	}
	if ranks > 1 {
		groups = append(groups, ranks)
	}
	return groups
}
