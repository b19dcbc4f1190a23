package engine

import (
	"math"

	"github.com/mistura-project/mistura/internal/engine/numeric"
)

// operand is a block [rows, cols] of a matrix that is about to be multiplied.
type operand struct {
	src     []float32
	ld      int
	rows    int
	cols    int
	upright bool // the inner dimension runs down the columns
	role    numeric.Role
	linear  int
	scales  *[]float32 // where scales per block are left: [blocks of the inner dimension][the other one]
}

// loadOperand gives the operand rounded, with no gaps between its rows.
func (e *Engine) loadOperand(w *worker, r *rule, scratch *[]float32, o *operand) []float32 {
	dst := growFloats(scratch, o.rows*o.cols)
	switch {
	case !r.rounds[o.role]:
		for i := range o.rows {
			copy(dst[i*o.cols:(i+1)*o.cols], o.src[i*o.ld:])
		}
	case r.scaling == numeric.PerBlock && o.role == numeric.Weight:
		e.loadSquares(r, dst, o)
	case r.scaling == numeric.PerBlock && o.upright:
		e.loadColumns(w, r, dst, o)
	case r.scaling == numeric.PerBlock:
		e.loadRows(r, dst, o)
	case r.scaling == numeric.PerTensor:
		e.loadScaled(w, r, dst, o)
	default:
		rounding := r.in[o.role]
		for i := range o.rows {
			e.round(w, dst[i*o.cols:(i+1)*o.cols], o.src[i*o.ld:i*o.ld+o.cols], &rounding, r.tops[o.role])
		}
	}
	return dst
}

// loadScaled has the tensor's own scale, from the steps before. A row with a value that is
// not finite stays as it is.
func (e *Engine) loadScaled(w *worker, r *rule, dst []float32, o *operand) {
	rounding := r.in[o.role].Scaled(e.delayed.scale(o.linear, o.role))
	for i := range o.rows {
		row, y := o.src[i*o.ld:i*o.ld+o.cols], dst[i*o.cols:(i+1)*o.cols]
		e.kernel.Round(y, row, &rounding)
		amax := e.kernel.MaxAbs(row)
		if !(amax <= math.MaxFloat32) {
			copy(y, row) // saturation would hide an infinity
		}
		if e.training {
			w.amax.see(o.linear, o.role, amax)
		}
	}
}

// loadRows has a scale for every run of a row.
func (e *Engine) loadRows(r *rule, dst []float32, o *operand) {
	format, scales := r.formats[o.role], growFloats(o.scales, blocksOf(o.cols, numeric.ScaleBlock)*o.rows)
	for i := range o.rows {
		for j := range blocksOf(o.cols, numeric.ScaleBlock) {
			from, to := block(j, numeric.ScaleBlock, o.cols)
			x := o.src[i*o.ld+from : i*o.ld+to]
			scale, inverse := format.Scale(e.kernel.MaxAbs(x))
			rounding := r.in[o.role].Scaled(scale, inverse)
			e.kernel.Round(dst[i*o.cols+from:i*o.cols+to], x, &rounding)
			scales[j*o.rows+i] = scale
		}
	}
}

// loadSquares has a scale for every square block of a weight. The block of the matrix
// that is loaded begins where a block of scaling does.
func (e *Engine) loadSquares(r *rule, dst []float32, o *operand) {
	outer, inner := o.rows, o.cols
	if o.upright {
		outer, inner = o.cols, o.rows
	}
	format, scales := r.formats[o.role], growFloats(o.scales, blocksOf(inner, numeric.ScaleBlock)*outer)
	for i := range blocksOf(o.rows, numeric.ScaleBlock) {
		for j := range blocksOf(o.cols, numeric.ScaleBlock) {
			top, bottom := block(i, numeric.ScaleBlock, o.rows)
			from, to := block(j, numeric.ScaleBlock, o.cols)
			most := uint32(0) // magnitudes are ordered as their bits are, NaN last
			for row := top; row < bottom; row++ {
				most = max(most, math.Float32bits(e.kernel.MaxAbs(o.src[row*o.ld+from:row*o.ld+to])))
			}
			scale, inverse := format.Scale(math.Float32frombits(most))
			rounding := r.in[o.role].Scaled(scale, inverse)
			for row := top; row < bottom; row++ {
				e.kernel.Round(dst[row*o.cols+from:row*o.cols+to], o.src[row*o.ld+from:row*o.ld+to], &rounding)
			}
			b, first, last := j, top, bottom
			if o.upright {
				b, first, last = i, from, to
			}
			for x := first; x < last; x++ {
				scales[b*outer+x] = scale
			}
		}
	}
}

// loadColumns has a scale for every run of a column.
func (e *Engine) loadColumns(w *worker, r *rule, dst []float32, o *operand) {
	format, scales := r.formats[o.role], growFloats(o.scales, blocksOf(o.rows, numeric.ScaleBlock)*o.cols)
	inverses := growFloats(&w.round.column, o.cols)
	for i := range blocksOf(o.rows, numeric.ScaleBlock) {
		from, to := block(i, numeric.ScaleBlock, o.rows)
		most := scales[i*o.cols : (i+1)*o.cols]
		clear(most)
		for row := from; row < to; row++ {
			for j, x := range o.src[row*o.ld : row*o.ld+o.cols] {
				if u := math.Float32bits(x) &^ (1 << 31); u > math.Float32bits(most[j]) {
					most[j] = math.Float32frombits(u)
				}
			}
		}
		for j, amax := range most {
			most[j], inverses[j] = format.Scale(amax)
		}
		for row := from; row < to; row++ {
			y := dst[row*o.cols : (row+1)*o.cols]
			e.kernel.ScaleMul(y, o.src[row*o.ld:row*o.ld+o.cols], inverses, 1)
			e.kernel.Round(y, y, &r.in[o.role])
			e.kernel.ScaleMul(y, y, most, 1)
		}
	}
}
