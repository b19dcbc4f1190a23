//go:build !linux

package machine

// CPUs is how many processors this process may keep busy.
func CPUs() int { return usable() }
