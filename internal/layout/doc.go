// Package layout is the arithmetic of pieces: which box of which tensor a rank or
// host holds, whether boxes cover a model exactly once, and where a box lies in a
// fragment's flat vector.
//
// Enter by Resolve (what somebody says it holds, checked against the model's
// tensors), Cover (exactly once, or the first element that is not) and Frame (moves
// boxes between a fragment's vector and a payload). It is pure: it knows neither who
// holds a box nor how it travels.
package layout
