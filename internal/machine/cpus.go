package machine

import "runtime"

// usable is how many processors the Go runtime keeps busy: those that the system lets this
// process run on, or what GOMAXPROCS says.
func usable() int { return runtime.GOMAXPROCS(0) }
