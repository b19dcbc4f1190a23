package kernel

import (
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/mistura-project/mistura/internal/fault"
)

// Variable is the environment variable that chooses the kernel set.
const Variable = "MISTURA_KERNEL"

// Set is one implementation of every kernel. Its zero value is not usable.
type Set struct {
	name  string
	gemm  gemm
	vec   vector
	space sync.Pool // of *workspace
}

// Names lists every set there is, the slowest first, whether or not this binary and
// this CPU have it.
func Names() []string { return []string{"go", "avx2", "avx512"} }

// Available lists the sets that this binary and this CPU have, the fastest last.
func Available() []string {
	names := make([]string, 0, len(Names()))
	for _, b := range backends() {
		names = append(names, b.name)
	}
	return names
}

// New gives the named set, or the fastest one available where name is empty.
// The error is a *fault.Input that names the choices.
func New(name string) (*Set, error) {
	all := backends()
	if name == "" {
		return newSet(all[len(all)-1]), nil
	}
	for _, b := range all {
		if b.name == name {
			return newSet(b), nil
		}
	}
	problem := "no such kernel set"
	if slices.Contains(Names(), name) {
		problem = "this binary or this CPU does not have that kernel set"
	}
	return nil, &fault.Input{
		Where:   Variable,
		Value:   name,
		Problem: problem,
		Next:    "use one of " + strings.Join(Available(), ", ") + ", or leave it empty for the fastest",
	}
}

// FromEnvironment is New with the value of MISTURA_KERNEL. Programs call it once, at
// their edge, and hand the Set on.
func FromEnvironment() (*Set, error) { return New(os.Getenv(Variable)) }

// Name is the set's name as in Names; it goes into the record of a run, since
// sets differ in the last bits.
func (s *Set) Name() string { return s.name }

// backend is what a set is made of.
type backend struct {
	name string
	gemm gemm
	vec  vector
}

// backends lists what can run here, the slowest first.
func backends() []backend {
	portable := backend{name: "go", gemm: portableGemm(), vec: portableVector()}
	return append([]backend{portable}, assembly()...)
}

func newSet(b backend) *Set {
	s := &Set{name: b.name, gemm: b.gemm, vec: b.vec}
	s.space.New = func() any { return newWorkspace(&b.gemm) }
	return s
}
