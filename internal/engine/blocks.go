package engine

// Sizes of the units of work. They are constants because they are part of what
// decides which worker writes what; none of them depends on the threads.
const (
	tokenBlock  = 128     // tokens of one item of a per-token phase
	expertBlock = 128     // rows of one item of a routed expert
	queryBlock  = 32      // queries whose scores are computed at a time
	gradRows    = 128     // rows of a weight gradient in one item
	gainColumns = 64      // columns of a norm gradient in one item
	flatBlock   = 1 << 16 // elements of the flat gradient in one item
	groupTokens = 4096    // tokens of a pass: a larger batch is worked off in several, to bound memory
)

// blocksOf is the number of blocks of the given size that cover n.
func blocksOf(n, size int) int { return (n + size - 1) / size }

// block gives the bounds of block i.
func block(i, size, n int) (from, to int) { return i * size, min((i+1)*size, n) }
