package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// product writes the tiles of a set, for every number of rows and for one and two
// registers of columns, and its packing of B.
func product(c *build.Context, w width) {
	for vecs := 2; vecs >= 1; vecs-- {
		for rows := 1; rows <= w.rows; rows++ {
			tile(c, w, rows, vecs)
		}
	}
	copyPanel(c, w)
	if w == avx2 {
		transposePanel(c)
	}
}

// tile writes a function that runs down `tiles` tiles of C with `rows` rows each. An
// element is one fused chain over k from C, or from zero when fresh is set.
//
//	c      first element of C; ldc: elements from one row to the next
//	a      first element of A; row, col: elements from one row and column to the next
//	b      first element of B's panel; bRow: elements from one row to the next
func tile(c *build.Context, w width, rows, vecs int) {
	c.Function(fmt.Sprintf("%sTile%dx%d", w.name, rows, vecs*w.lanes()))
	c.Attributes(attr.NOSPLIT)
	c.SignatureExpr("func(c, a, b *float32, ldc, row, col, bRow, k, tiles int, fresh bool)")
	c.Pragma("noescape")
	t := newTile(c, w, rows, vecs)
	c.Label("tile")
	t.start()
	t.loop()
	t.finish()
	c.VZEROUPPER()
	c.RET()
}

// tileState is the registers of one tile function.
type tileState struct {
	*build.Context
	width
	rows, vecs                int
	c, a, ldc, row, row3, col reg.GPVirtual // row3 is three rows
	bRow, tiles, b, k         reg.GPVirtual
	group                     []reg.GPVirtual    // one pointer to every fifth row of A
	sum                       [][]reg.VecVirtual // [rows][vecs]
}

func newTile(c *build.Context, w width, rows, vecs int) *tileState {
	t := &tileState{
		Context: c, width: w, rows: rows, vecs: vecs,
		c: load(c, "c"), a: load(c, "a"),
		ldc: inBytes(c, load(c, "ldc")), row: inBytes(c, load(c, "row")),
		col: inBytes(c, load(c, "col")), bRow: inBytes(c, load(c, "bRow")),
		tiles: load(c, "tiles"),
		row3:  c.GP64(), b: c.GP64(), k: c.GP64(),
	}
	if rows > 3 {
		c.LEAQ(operand.Mem{Base: t.row, Index: t.row, Scale: 2}, t.row3)
	}
	for i := 0; i < rows; i += 5 {
		t.group = append(t.group, c.GP64())
	}
	for range rows {
		t.sum = append(t.sum, w.registers(c, vecs))
	}
	return t
}

// start loads the sums, from C or as zero, and sets the pointers for the chain.
func (t *tileState) start() {
	fresh := t.GP64()
	t.MOVBQZX(t.param("fresh"), fresh)
	t.TESTQ(fresh, fresh)
	t.JNZ(operand.LabelRef("zero"))
	t.eachRow(func(i int, at operand.Mem) {
		for v := range t.vecs {
			t.VMOVUPS(at.Offset(v*t.bytes), t.sum[i][v])
		}
	})
	t.JMP(operand.LabelRef("ready"))
	t.Label("zero")
	for i := range t.rows {
		for v := range t.vecs {
			t.zero(t.Context, t.sum[i][v])
		}
	}
	t.Label("ready")
	t.Load(t.Param("b"), t.b)
	t.Load(t.Param("k"), t.k)
	t.MOVQ(t.a, t.group[0])
	for g := 1; g < len(t.group); g++ {
		t.LEAQ(operand.Mem{Base: t.group[g-1], Index: t.row, Scale: 4}, t.group[g])
		t.ADDQ(t.row, t.group[g])
	}
}

// param is the stack slot of a parameter.
func (t *tileState) param(name string) operand.Mem {
	b, err := t.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// eachRow walks down the rows of C.
func (t *tileState) eachRow(f func(i int, at operand.Mem)) {
	at := t.GP64()
	t.MOVQ(t.c, at)
	for i := range t.rows {
		f(i, operand.Mem{Base: at})
		if i < t.rows-1 {
			t.ADDQ(t.ldc, at)
		}
	}
}

// loop runs the chains, two steps of the inner dimension a turn.
func (t *tileState) loop() {
	b, x := t.registers(t.Context, t.vecs), t.register(t.Context)
	t.SHRQ(operand.U8(1), t.k)
	t.JNC(operand.LabelRef("even"))
	t.step(b, x)
	t.TESTQ(t.k, t.k)
	t.JZ(operand.LabelRef("done"))
	t.Label("even")
	t.step(b, x)
	t.step(b, x)
	t.DECQ(t.k)
	t.JNZ(operand.LabelRef("even"))
	t.Label("done")
}

// step adds one column of A times one row of B to the sums.
func (t *tileState) step(b []reg.VecVirtual, x reg.VecVirtual) {
	for v := range t.vecs {
		t.VMOVUPS(operand.Mem{Base: t.b, Disp: v * t.bytes}, b[v])
	}
	t.ADDQ(t.bRow, t.b)
	for i := range t.rows {
		t.VBROADCASTSS(t.element(i), x)
		for v := range t.vecs {
			t.VFMADD231PS(b[v], x, t.sum[i][v])
		}
	}
	for _, g := range t.group {
		t.ADDQ(t.col, g)
	}
}

// element is A's element in row i of the tile and the current column.
func (t *tileState) element(i int) operand.Mem {
	m := operand.Mem{Base: t.group[i/5]}
	switch i % 5 {
	case 1, 2, 4:
		m.Index, m.Scale = t.row, uint8(i%5)
	case 3:
		m.Index, m.Scale = t.row3, 1
	}
	return m
}

// finish stores the sums and goes on to the next tile.
func (t *tileState) finish() {
	at := t.c
	for i := range t.rows {
		for v := range t.vecs {
			t.VMOVUPS(t.sum[i][v], operand.Mem{Base: at, Disp: v * t.bytes})
		}
		t.ADDQ(t.ldc, at)
		t.ADDQ(t.row, t.a)
	}
	t.DECQ(t.tiles)
	t.JNZ(operand.LabelRef("tile"))
}

// copyPanel writes a function that packs one full panel of B, two registers wide,
// from k rows that lie ld elements apart.
func copyPanel(c *build.Context, w width) {
	c.Function(w.name + "CopyPanel")
	c.Attributes(attr.NOSPLIT)
	c.SignatureExpr("func(dst, src *float32, ld, k int)")
	c.Pragma("noescape")
	dst, src, ld, k := load(c, "dst"), load(c, "src"), inBytes(c, load(c, "ld")), load(c, "k")
	x := w.registers(c, 2)
	c.Label("row")
	for v := range x {
		c.VMOVUPS(operand.Mem{Base: src, Disp: v * w.bytes}, x[v])
	}
	for v := range x {
		c.VMOVUPS(x[v], operand.Mem{Base: dst, Disp: v * w.bytes})
	}
	c.ADDQ(ld, src)
	c.ADDQ(operand.I32(2*w.bytes), dst)
	c.DECQ(k)
	c.JNZ(operand.LabelRef("row"))
	c.VZEROUPPER()
	c.RET()
}

// transposePanel writes a function that packs eight columns of a panel, or eight rows of A
// seen as columns: dst[p*step+j] = src[j*ld+p] for j < 8 and p < 8*blocks.
func transposePanel(c *build.Context) {
	c.Function("avx2Transpose")
	c.Attributes(attr.NOSPLIT)
	c.SignatureExpr("func(dst, src *float32, step, ld, blocks int)")
	c.Pragma("noescape")
	dst, src := load(c, "dst"), load(c, "src")
	step, ld, blocks := inBytes(c, load(c, "step")), inBytes(c, load(c, "ld")), load(c, "blocks")
	at := c.GP64()
	c.Label("block")
	c.MOVQ(src, at)
	var rows []reg.VecVirtual
	for range 8 {
		r := c.YMM()
		c.VMOVUPS(operand.Mem{Base: at}, r)
		c.ADDQ(ld, at)
		rows = append(rows, r)
	}
	for _, r := range transpose8(c, rows) {
		c.VMOVUPS(r, operand.Mem{Base: dst})
		c.ADDQ(step, dst)
	}
	c.ADDQ(operand.I32(32), src)
	c.DECQ(blocks)
	c.JNZ(operand.LabelRef("block"))
	c.VZEROUPPER()
	c.RET()
}

// transpose8 transposes eight rows of eight: pairs, then fours, then halves.
func transpose8(c *build.Context, r []reg.VecVirtual) []reg.VecVirtual {
	pairs := make([]reg.VecVirtual, 8)
	for i := 0; i < 8; i += 2 {
		pairs[i], pairs[i+1] = c.YMM(), c.YMM()
		c.VUNPCKLPS(r[i+1], r[i], pairs[i])
		c.VUNPCKHPS(r[i+1], r[i], pairs[i+1])
	}
	// fours[g][j] holds columns j and j+4 of rows 4g to 4g+3.
	var fours [2][4]reg.VecVirtual
	for g := range 2 {
		low, high := pairs[4*g:4*g+2], pairs[4*g+2:4*g+4]
		for j := range 4 {
			fours[g][j] = c.YMM()
			c.VSHUFPS(operand.U8(0x44+0xaa*(j%2)), high[j/2], low[j/2], fours[g][j])
		}
	}
	out := make([]reg.VecVirtual, 8)
	for j := range 4 {
		out[j], out[j+4] = c.YMM(), c.YMM()
		c.VPERM2F128(operand.U8(0x20), fours[1][j], fours[0][j], out[j])
		c.VPERM2F128(operand.U8(0x31), fours[1][j], fours[0][j], out[j+4])
	}
	return out
}
