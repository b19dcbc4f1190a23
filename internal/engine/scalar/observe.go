package scalar

import "strconv"

// Observer is given an intermediate tensor of a sequence, [token][element], heads
// side by side: "layers.0.q", or "logits" outside the layers.
type Observer[F Float] func(row int, name string, tensor [][]F)

// observe hands over everything that the forward pass made of the sequence.
func (s *sequence[F]) observe(row int, see Observer[F]) {
	for l, tape := range s.layers {
		if l == 0 {
			see(row, "embedding", tape.x)
		}
		out := s.x
		if l+1 < len(s.layers) {
			out = s.layers[l+1].x
		}
		tape.observe(func(name string, tensor [][]F) { see(row, "layers."+strconv.Itoa(l)+"."+name, tensor) })
		see(row, "layers."+strconv.Itoa(l)+".out", out)
	}
	see(row, "final", s.final)
	var logits [][]F
	for _, h := range s.final {
		logits = append(logits, Linear(s.head, h, s.m.Config.Vocab))
	}
	see(row, "logits", logits)
}

func (l *layerTape[F]) observe(see func(name string, tensor [][]F)) {
	see("h", l.h)
	see("q", l.q.sideBySide())
	see("k", l.k.sideBySide())
	see("v", l.v.sideBySide())
	see("attention", l.o)
	see("mid", l.mid)
	see("m", l.m)
	var logits, scores, weights, routed, wide [][]F
	for t, m := range l.m {
		if prefix := l.widePrefix(); prefix != "" {
			y, _ := l.mlp(prefix, m)
			wide = append(wide, y)
		}
		if l.s.m.Config.Dense(l.layer) {
			continue
		}
		r, y := l.routed[t], make([]F, len(m))
		for i, out := range l.expertOuts[t] {
			Add(y, out, r.Weight[i])
		}
		logits, scores, weights = append(logits, r.Logits), append(scores, r.Scores), append(weights, r.Weight)
		routed = append(routed, y)
	}
	for _, seen := range []struct {
		name   string
		tensor [][]F
	}{{"wide", wide}, {"router.logits", logits}, {"router.scores", scores}, {"router.weights", weights}, {"routed", routed}} {
		if len(seen.tensor) > 0 {
			see(seen.name, seen.tensor)
		}
	}
}

// sideBySide is [token][element of all heads].
func (h headsOf[F]) sideBySide() [][]F {
	var rows [][]F
	for t := range h[0] {
		var row []F
		for i := range h {
			row = append(row, h[i][t]...)
		}
		rows = append(rows, row)
	}
	return rows
}
