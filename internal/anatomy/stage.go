package anatomy

// Stage is what one rank of a pipeline holds of a model: layers, and at the ends
// embedding and head.
type Stage struct {
	Decoder       // sizes that all stages share; its Layers are the whole model's
	Held    []Run // the layers of this stage
	First   bool  // it has the embedding
	Final   bool  // it has the last norm, the head and the MTP modules
}

// Whole is the model as one stage.
func (d Decoder) Whole() Stage { return Stage{Decoder: d, Held: d.Layers, First: true, Final: true} }

// Stages cuts the layers into runs of equal length, the later ones longer by one
// where they do not divide. There are as many stages as asked for, at most one a layer.
func (d Decoder) Stages(count int) []Stage {
	speeds := make([]float64, count)
	for i := range speeds {
		speeds[i] = 1
	}
	var out []Stage
	from := 0
	shares, _ := Deal(d.Depth(), speeds, nil)
	for i, n := range shares {
		out = append(out, Stage{Decoder: d, Held: cut(d.Layers, from, from+n), First: i == 0, Final: i == count-1})
		from += n
	}
	return out
}

// cut gives layers from to to, the latter not included.
func cut(runs []Run, from, to int) []Run {
	var out []Run
	at := 0
	for _, r := range runs {
		if n := min(to, at+r.Count) - max(from, at); n > 0 {
			out = append(out, Run{Count: n, Layer: r.Layer})
		}
		at += r.Count
	}
	return out
}

// Kinds are the kinds of layers, equal ones together wherever they stand.
func (d Decoder) Kinds() []Run { return kinds(d.Layers, true) }

// kinds puts equal layers together, wherever they stand; layers that differ by their
// window alone too, unless windows count.
func kinds(runs []Run, windows bool) []Run {
	var out []Run
	at := map[Layer]int{}
	for _, r := range runs {
		if !windows {
			r.Attention.Window = 0
		}
		i, ok := at[r.Layer]
		if !ok {
			i = len(out)
			at[r.Layer], out = i, append(out, Run{Layer: r.Layer})
		}
		out[i].Count += r.Count
	}
	return out
}

// copiesEmbedding: the last of several stages has the tied embedding too.
func (s Stage) copiesEmbedding() bool { return s.Tied && s.Final && !s.First }
