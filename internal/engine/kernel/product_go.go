package kernel

// The portable product. Products are rounded before they are added (float32(x*y)):
// without the conversion the compiler fuses the two on arm64 and not on amd64.

// goCols is the width of a tile; one row of eight sums is what the compiler keeps
// in the sixteen registers of amd64 without spilling. Two rows of four and three
// of three were no faster, four of four half as fast.
const goCols = 8

func portableGemm() gemm {
	return gemm{
		tileCols: goCols, depth: 256, rows: 128, cols: 1024, directRows: 0,
		packB: goPackB,
		packA: goPackA,
		wantA: func(a matrix, _ int) bool { return a.col != 1 },
		strip: goStrip,
	}
}

// goPackB packs panels [k][goCols].
func goPackB(dst []float32, b matrix, k, n int) {
	for j := 0; j < n; j += goCols {
		panel := dst[j*k : (j+goCols)*k]
		width := min(goCols, n-j)
		if width < goCols {
			clear(panel)
		}
		packPanel(panel, goCols, b.from(0, j), k, width)
	}
}

// packPanel writes panel[p*stride+j] = b(p, j) for p < k and j < width.
func packPanel(panel []float32, stride int, b matrix, k, width int) {
	if b.col == 1 {
		for p := range k {
			copy(panel[p*stride:p*stride+width], b.data[p*b.row:])
		}
		return
	}
	for j := range width {
		for p, v := range b.data[j*b.col : j*b.col+k] {
			panel[p*stride+j] = v
		}
	}
}

// goPackA makes rows of k out of columns of a.
func goPackA(dst []float32, a matrix, m, k int) {
	for p := range k {
		for i, v := range a.data[p*a.col : p*a.col+m] {
			dst[i*k+p] = v
		}
	}
}

func goStrip(t *strip) {
	for i := range t.rows {
		a := t.a.data[i*t.a.row : i*t.a.row+t.k]
		c := t.c[i*t.ldc:]
		if t.cols == goCols {
			goTile((*[goCols]float32)(c), a, t.b, t.fresh)
			continue
		}
		var edge [goCols]float32
		copy(edge[:t.cols], c)
		goTile(&edge, a, t.b, t.fresh)
		copy(c, edge[:t.cols])
	}
}

// goTile is C[1, 8] (+)= a·panel for a [k] and panel [k][8].
func goTile(c *[goCols]float32, a, panel []float32, fresh bool) {
	const unroll = 4
	if fresh {
		*c = [goCols]float32{}
	}
	x0, x1, x2, x3, x4, x5, x6, x7 := c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
	for len(a) >= unroll && len(panel) >= unroll*goCols {
		b := (*[unroll * goCols]float32)(panel)
		u := a[0]
		x0 += float32(b[0] * u)
		x1 += float32(b[1] * u)
		x2 += float32(b[2] * u)
		x3 += float32(b[3] * u)
		x4 += float32(b[4] * u)
		x5 += float32(b[5] * u)
		x6 += float32(b[6] * u)
		x7 += float32(b[7] * u)
		u = a[1]
		x0 += float32(b[8] * u)
		x1 += float32(b[9] * u)
		x2 += float32(b[10] * u)
		x3 += float32(b[11] * u)
		x4 += float32(b[12] * u)
		x5 += float32(b[13] * u)
		x6 += float32(b[14] * u)
		x7 += float32(b[15] * u)
		u = a[2]
		x0 += float32(b[16] * u)
		x1 += float32(b[17] * u)
		x2 += float32(b[18] * u)
		x3 += float32(b[19] * u)
		x4 += float32(b[20] * u)
		x5 += float32(b[21] * u)
		x6 += float32(b[22] * u)
		x7 += float32(b[23] * u)
		u = a[3]
		x0 += float32(b[24] * u)
		x1 += float32(b[25] * u)
		x2 += float32(b[26] * u)
		x3 += float32(b[27] * u)
		x4 += float32(b[28] * u)
		x5 += float32(b[29] * u)
		x6 += float32(b[30] * u)
		x7 += float32(b[31] * u)
		a, panel = a[unroll:], panel[unroll*goCols:]
	}
	*c = [goCols]float32{x0, x1, x2, x3, x4, x5, x6, x7}
	for i, u := range a {
		b := (*[goCols]float32)(panel[i*goCols:])
		for j := range c {
			c[j] += float32(b[j] * u)
		}
	}
}
