//go:build !linux && !darwin

package machine

// MemoryBytes is unknown here.
func MemoryBytes() int64 { return 0 }

// PeakBytes is unknown here.
func PeakBytes() int64 { return 0 }

// Processor is unknown here.
func Processor() string { return "" }
