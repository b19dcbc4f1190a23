package serve

import (
	"path/filepath"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// inlineRunBytes is the longest run file that goes into a frame. One that lists the tensors
// of a large model goes behind it.
const inlineRunBytes = 1 << 20

// welcome is what every host of an incarnation needs to know of the run.
func (h *host) welcome(incarnation uint64, restore *wire.IslandState) transport.Down {
	w := &wire.Welcome{
		RunDir: h.runDir(), DataDir: filepath.Join(h.runDir(), dataFolder), Island: h.crew.island(incarnation), Restore: restore,
		Secret: h.authority.Pass(h.runID, authority.Life{Era: h.era, Incarnation: incarnation, Island: h.crew.island(incarnation)}), Nonce: h.nonce, DataDigest: h.data().Digest,
	}
	run := h.run.Marshal()
	m := transport.Down{ToLearner: &wire.ToLearner{Body: &wire.ToLearner_Welcome{Welcome: w}}}
	if len(run) <= inlineRunBytes {
		w.RunYaml = run
	} else {
		m.Payload = run
	}
	return m
}
