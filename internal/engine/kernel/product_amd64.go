//go:build !noasm

package kernel

// tileFunc runs down `tiles` tiles of one height and width; gen/product.go states it.
type tileFunc func(c, a, b *float32, ldc, row, col, bRow, k, tiles int, fresh bool)

// tileSet is the tiles of a set by height (index rows-1), as wide as a panel and half
// as wide.
type tileSet struct {
	cols        int
	whole, half []tileFunc
	copyPanel   func(dst, src *float32, ld, k int)
}

func avx2Gemm() gemm {
	t := tileSet{
		cols:      16,
		whole:     []tileFunc{avx2Tile1x16, avx2Tile2x16, avx2Tile3x16, avx2Tile4x16, avx2Tile5x16, avx2Tile6x16},
		half:      []tileFunc{avx2Tile1x8, avx2Tile2x8, avx2Tile3x8, avx2Tile4x8, avx2Tile5x8, avx2Tile6x8},
		copyPanel: avx2CopyPanel,
	}
	return t.gemm()
}

func avx512Gemm() gemm {
	t := tileSet{
		cols: 32,
		whole: []tileFunc{
			avx512Tile1x32, avx512Tile2x32, avx512Tile3x32, avx512Tile4x32, avx512Tile5x32,
			avx512Tile6x32, avx512Tile7x32, avx512Tile8x32, avx512Tile9x32, avx512Tile10x32,
			avx512Tile11x32, avx512Tile12x32, avx512Tile13x32, avx512Tile14x32,
		},
		half: []tileFunc{
			avx512Tile1x16, avx512Tile2x16, avx512Tile3x16, avx512Tile4x16, avx512Tile5x16,
			avx512Tile6x16, avx512Tile7x16, avx512Tile8x16, avx512Tile9x16, avx512Tile10x16,
			avx512Tile11x16, avx512Tile12x16, avx512Tile13x16, avx512Tile14x16,
		},
		copyPanel: avx512CopyPanel,
	}
	return t.gemm()
}

func (t *tileSet) gemm() gemm {
	return gemm{
		tileCols: t.cols, depth: 256, rows: 192, cols: 1024,
		directRows: 4 * len(t.whole),
		packB:      t.packB,
		packA:      packA,
		wantA:      wantA,
		strip:      t.strip,
	}
}

// wantA says whether A is worth a copy. It is read where it lies, row by row or column by
// column, unless the lines that a tile needs fall into a few sets of the first-level
// cache and evict each other: 64 sets of 64 bytes make that every 4 KiB, and multiples of
// half of it (rows) and a quarter of it (columns) already cost up to half the speed.
// Below 64 columns of C the copy costs more.
func wantA(a matrix, n int) bool {
	if n < 64 {
		return false
	}
	if a.col == 1 {
		return a.row%512 == 0
	}
	return a.col%256 == 0
}

// strip shares rows out to tiles of nearly equal height: what is left over by full
// tiles alone would have too few sums in flight to keep the adders busy.
func (t *tileSet) strip(s *strip) {
	run, c, ldc := t.whole, s.c, s.ldc
	width := t.cols
	if s.cols <= t.cols/2 {
		run, width = t.half, t.cols/2
	}
	if s.cols < width {
		c, ldc = s.edge, width
		copyRows(c, ldc, s.c, s.ldc, s.rows, s.cols)
	}
	count := (s.rows + len(run) - 1) / len(run)
	low := s.rows / count // height of a tile; `more` tiles are one higher
	more := s.rows % count
	if more > 0 {
		run[low](&c[0], &s.a.data[0], &s.b[0], ldc, s.a.row, s.a.col, s.bRow, s.k, more, s.fresh)
	}
	i := more * (low + 1)
	run[low-1](&c[i*ldc], &s.a.data[i*s.a.row], &s.b[0], ldc, s.a.row, s.a.col, s.bRow, s.k, count-more, s.fresh)
	if s.cols < width {
		copyRows(s.c, s.ldc, c, ldc, s.rows, s.cols)
	}
}

func copyRows(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	for i := range rows {
		copy(dst[i*ldd:i*ldd+cols], src[i*lds:])
	}
}

// packB packs panels [k][cols].
func (t *tileSet) packB(dst []float32, b matrix, k, n int) {
	for j := 0; j < n; j += t.cols {
		panel := dst[j*k : (j+t.cols)*k]
		width := min(t.cols, n-j)
		if width < t.cols {
			clear(panel)
		}
		if b.row == 1 {
			packTransposed(panel, t.cols, b.data[j*b.col:], b.col, k, width)
		} else if width == t.cols {
			t.copyPanel(&panel[0], &b.data[j], b.row, k)
		} else {
			packPanel(panel, t.cols, b.from(0, j), k, width)
		}
	}
}

// packTransposed writes panel[p*step+j] = src[j*ld+p] for p < k and j < width.
func packTransposed(panel []float32, step int, src []float32, ld, k, width int) {
	whole := k / 8 * 8
	j := 0
	for ; j+8 <= width && whole > 0; j += 8 {
		avx2Transpose(&panel[j], &src[j*ld], step, ld, k/8)
		for q := j; q < j+8; q++ {
			for p := whole; p < k; p++ {
				panel[p*step+q] = src[q*ld+p]
			}
		}
	}
	if j < width {
		packPanel(panel[j:], step, matrix{src[j*ld:], 1, ld}, k, width-j)
	}
}

// packA makes contiguous rows of k out of A.
func packA(dst []float32, a matrix, m, k int) {
	if a.col == 1 {
		copyRows(dst, k, a.data, a.row, m, k)
		return
	}
	packTransposed(dst, k, a.data, a.col, m, k)
}
