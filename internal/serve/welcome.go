package serve

import (
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// inlineRunBytes is the longest run file that goes into a frame. One that lists the tensors
// of a large model goes behind it.
const inlineRunBytes = 1 << 20

// welcome is the message w with the run file.
func (op *opened) welcome(w *wire.Welcome) transport.Down {
	run := op.run.Marshal()
	m := transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Welcome{Welcome: w}}}
	if len(run) <= inlineRunBytes {
		w.RunYaml = run
	} else {
		m.Payload = run
	}
	return m
}
