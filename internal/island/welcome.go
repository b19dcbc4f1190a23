package island

import (
	"errors"
	"fmt"

	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
)

// runOf is the resolved run that a welcome brings, in its frame or behind it.
func runOf(m transport.Down) (runfile.Run, error) {
	text := m.GetWelcome().GetRunYaml()
	if len(text) == 0 {
		text = m.Payload
	}
	run, err := runfile.Parse("welcome", text)
	if err == nil {
		run, err = run.Resolve()
	}
	if m.Damaged {
		err = errors.New("it came damaged")
	}
	if err != nil {
		return run, fmt.Errorf("run file from the coordinator: %w", err)
	}
	return run, nil
}
