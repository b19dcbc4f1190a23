package outer

import "math"

// Finite says whether x is free of NaN and infinities.
func Finite(x []float32) bool {
	// An exponent of all ones plus one carries into the sign bit; nothing else does.
	const exponent, one = 0x7f800000, 0x00800000
	var carry uint32
	for _, v := range x {
		carry |= math.Float32bits(v)&exponent + one
	}
	return carry>>31 == 0
}

// Norms gives the Euclidean length of each tensor; sizes are the tensors' elements,
// one behind the other in x. Squares are summed in fp64, in order.
func Norms(x []float32, sizes []int) []float64 {
	norms := make([]float64, len(sizes))
	from := 0
	for tensor, size := range sizes {
		var squares float64
		for _, v := range x[from : from+size] {
			squares += float64(float64(v) * float64(v))
		}
		norms[tensor] = math.Sqrt(squares)
		from += size
	}
	mustMatch(from, len(x))
	return norms
}
