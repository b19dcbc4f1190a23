package runfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

// origin remembers where values came from, so that a fault found later still
// names the line or the flag that the user wrote.
type origin struct {
	file  string
	lines map[string]int    // dotted path -> line
	flags map[string]string // dotted path -> flag
}

// where names the value at path ("train.beta1", "islands.1.pace") for a user.
func (o origin) where(path string) string {
	if flag, ok := o.flags[path]; ok {
		return flag
	}
	if line, ok := o.lines[path]; ok {
		return fmt.Sprintf("%s:%d: %s", o.file, line, path)
	}
	if o.file != "" {
		return o.file + ": " + path
	}
	return path
}

// FromFlag notes that the value at path was given by a flag, which later faults
// name in place of the file.
func (r Run) FromFlag(path, flag string) Run {
	flags := maps.Clone(r.origin.flags)
	if flags == nil {
		flags = map[string]string{}
	}
	flags[path] = flag
	r.origin.flags = flags
	return r
}

// Where names the value at path as the user knows it: flag, or file, line and key.
func (r Run) Where(path string) string { return r.origin.where(path) }

// fault is bad input at path.
func (r Run) fault(path string, value any, problem, next string) error {
	return &fault.Input{Where: r.Where(path), Value: fmt.Sprint(value), Problem: problem, Next: next}
}

// Sections are the top-level keys that the run's file sets, sorted.
func (r Run) Sections() []string {
	var out []string
	for path := range r.origin.lines {
		if !strings.ContainsAny(path, ".[") {
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return out
}

// says: the file has the key.
func (r Run) says(path string) bool {
	_, ok := r.origin.lines[path]
	return ok
}
