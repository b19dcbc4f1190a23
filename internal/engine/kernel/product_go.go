package kernel

// The portable product. Products are rounded before they are added (float32(x*y)):
// without the conversion the compiler fuses the two on arm64 and not on amd64.

const (
	goTileRows = 2
	goTileCols = 4
)

func portableGemm() gemm {
	return gemm{
		tileRows: goTileRows, tileCols: goTileCols,
		depth: 256, rows: 128, cols: 1024,
		packB: goPackB, packA: goPackA,
		wantA: func(*problem) bool { return true },
		strip: goStrip,
	}
}

// goPackB packs panels [k][goTileCols].
func goPackB(dst []float32, b matrix, k, n int) {
	for j := 0; j < n; j += goTileCols {
		panel := dst[j*k : (j+goTileCols)*k]
		width := min(goTileCols, n-j)
		if width < goTileCols {
			clear(panel)
		}
		packPanel(panel, goTileCols, matrix{b.data[j*b.col:], b.col, b.row}, width, k)
	}
}

// goPackA packs panels [k][goTileRows].
func goPackA(dst []float32, a matrix, m, k int) {
	for i := 0; i < m; i += goTileRows {
		panel := dst[i*k : (i+goTileRows)*k]
		width := min(goTileRows, m-i)
		if width < goTileRows {
			clear(panel)
		}
		packPanel(panel, goTileRows, a.from(i, 0), width, k)
	}
}

// packPanel writes panel[p*stride+i] = x(i, p) for i < width and p < k.
func packPanel(panel []float32, stride int, x matrix, width, k int) {
	if x.row == 1 {
		for p := range k {
			copy(panel[p*stride:p*stride+width], x.data[p*x.col:])
		}
		return
	}
	for i := range width {
		row := x.data[i*x.row : i*x.row+k]
		for p, v := range row {
			panel[p*stride+i] = v
		}
	}
}

// goStrip runs tiles over packed rows. Tiles at an edge work on a copy of C.
func goStrip(t *strip) {
	var edge [goTileRows][goTileCols]float32
	for i := 0; i < t.rows; i += goTileRows {
		a := t.a.data[i*t.k : (i+goTileRows)*t.k]
		rows := min(goTileRows, t.rows-i)
		if rows == goTileRows && t.cols == goTileCols {
			c0 := (*[goTileCols]float32)(t.c[i*t.ldc:])
			c1 := (*[goTileCols]float32)(t.c[(i+1)*t.ldc:])
			goTile(c0, c1, a, t.panel, t.fresh)
			continue
		}
		for r := range rows {
			copy(edge[r][:t.cols], t.c[(i+r)*t.ldc:])
		}
		goTile(&edge[0], &edge[1], a, t.panel, t.fresh)
		for r := range rows {
			copy(t.c[(i+r)*t.ldc:], edge[r][:t.cols])
		}
	}
}

// goTile is C[2, 4] (+)= a·b for panels a [k][2] and b [k][4].
func goTile(c0, c1 *[goTileCols]float32, a, b []float32, fresh bool) {
	var x0, x1, x2, x3, y0, y1, y2, y3 float32
	if !fresh {
		x0, x1, x2, x3 = c0[0], c0[1], c0[2], c0[3]
		y0, y1, y2, y3 = c1[0], c1[1], c1[2], c1[3]
	}
	for len(a) >= goTileRows && len(b) >= goTileCols {
		b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
		u, v := a[0], a[1]
		x0 += float32(u * b0)
		y0 += float32(v * b0)
		x1 += float32(u * b1)
		y1 += float32(v * b1)
		x2 += float32(u * b2)
		y2 += float32(v * b2)
		x3 += float32(u * b3)
		y3 += float32(v * b3)
		a, b = a[goTileRows:], b[goTileCols:]
	}
	*c0 = [goTileCols]float32{x0, x1, x2, x3}
	*c1 = [goTileCols]float32{y0, y1, y2, y3}
}
