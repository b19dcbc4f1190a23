//go:build race

package engine

// raceDetector: sync.Pool forgets at random under it, so that kernels allocate.
const raceDetector = true
