package serve

import (
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/spike"
	"github.com/mistura-project/mistura/internal/wire"
)

// spikedOf is a learner's report as the coordinator's input.
func spikedOf(incarnation uint64, s *wire.Spike) coord.Spiked {
	return coord.Spiked{
		Incarnation: incarnation, Step: s.Step, Position: int64(s.Position), Samples: int64(s.Samples),
		Verdict: verdictOf(s.Verdict), Retry: s.Retry, Finite: s.Loss-s.Loss == 0 && (s.NormUnknown || s.GradientNorm-s.GradientNorm == 0),
		Loss: s.Loss, Norm: s.GradientNorm, Median: s.Median, Bound: s.Bound, Reason: s.Reason,
	}
}

// verdictOf reads a verdict; one that is not known here is none that a step can have.
func verdictOf(v wire.Spiked) spike.Verdict {
	switch v {
	case wire.Spiked_WITHHELD:
		return spike.Withhold
	case wire.Spiked_HALF_RATE:
		return spike.HalfRate
	case wire.Spiked_SKIPPED:
		return spike.Skip
	default:
		return ""
	}
}

// spikeEvent tells of a decision that is on the tape.
func spikeEvent(r coord.SpikeRecord) ledger.Spiked {
	return ledger.Spiked{
		At: r.At, Island: r.Island, Step: r.Step, Verdict: ledger.SpikeVerdict(r.Verdict), Samples: samplesOf(r.Samples),
		Loss: measured(r.Loss), Median: measured(r.Median), Bound: measured(r.Bound), Reason: r.Reason,
	}
}

func measured(x *float64) ledger.Value {
	if x == nil {
		return ledger.Value{}
	}
	return ledger.Known(*x)
}

func samplesOf(ranges []coord.Range) []ledger.Samples {
	var out []ledger.Samples
	for _, r := range ranges {
		out = append(out, ledger.Samples{From: r.From, To: r.To})
	}
	return out
}
