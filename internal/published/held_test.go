package published

import "testing"

// Figure 1 of Korthikanti et al. (arXiv 2205.05198) has four models, each without and
// with what the paper proposes.
func TestFigureOneIsHeldByParts(t *testing.T) {
	rows := 0
	for _, r := range Builtin() {
		h := r.Held()
		if h.Activations.Known != h.State.Known {
			t.Errorf("%s: %+v", r.ID, h)
		}
		if h.State.Known {
			rows++
		}
	}
	if rows != 8 {
		t.Errorf("%d rows", rows)
	}
	r := Run{Metric: "activation_memory", Unit: "GiB/chip", Measured: Amount{2, true}, Notes: "weights+optimizer=1.5 GiB/chip; no recompute"}
	if h := r.Held(); h.Activations != (Amount{2 << 30, true}) || h.State != (Amount{3 << 29, true}) {
		t.Errorf("%+v", h)
	}
	r.Notes = "weights+optimizer=nothing GiB/chip"
	if h := r.Held(); h.State.Known {
		t.Errorf("%+v", h)
	}
	r.Unit = "MB"
	if h := r.Held(); h != (Held{}) {
		t.Errorf("%+v", h)
	}
}
