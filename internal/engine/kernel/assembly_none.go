//go:build !amd64 || noasm

package kernel

// assembly gives no sets: there is no assembly for this architecture, or the build
// leaves it out.
func assembly() []backend { return nil }
