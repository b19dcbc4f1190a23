package chip

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fault"
)

func TestBuiltinTableIsWrittenAsItIsRead(t *testing.T) {
	if got := BuiltinTable().Marshal(); !bytes.Equal(got, builtinTable) {
		t.Errorf("differs from efficiency.csv:\n%s", got)
	}
}

// Every row is of a chip of the catalogue, and the peak that its source compares with is
// the catalogue's or near it.
func TestTableFitsTheCatalogue(t *testing.T) {
	all := Builtin()
	for _, m := range BuiltinTable().Rows {
		c, err := all.Find(m.Chip)
		if err != nil {
			t.Error(err)
			continue
		}
		field, ok := Peak(m.Format)
		if !ok {
			field = LinkGBs
			if m.Group == 2 && c.Of(LinkKind).Text() == Mesh {
				field = PairGBs
			}
		}
		peak, known := m.Peak.Exact()
		low, high, said := c.Of(field).Range()
		if known && said && (peak < 0.99*low || peak > 1.01*high) {
			t.Errorf("%s %s: the source compares with %v, the catalogue says %v", m.Chip, m.Operation, peak, c.Of(field).Value)
		}
	}
}

func TestTableLookups(t *testing.T) {
	table := BuiltinTable()
	k := Key{Chip: "b200", Operation: GroupedProduct, Format: "bf16", Shape: TrainingShape}
	rows := table.Of(k)
	if len(rows) != 1 {
		t.Fatalf("%d rows of %v", len(rows), k)
	}
	share, ok := rows[0].Share()
	low, high, both := rows[0].Bounds()
	if !ok || !both || math.Abs(share-0.298) > 1e-9 || math.Abs(low-0.077*2250) > 1e-9 || math.Abs(high-0.513*2250) > 1e-9 {
		t.Errorf("share %v %v, %v to %v %v", share, ok, low, high, both)
	}
	pair := table.Of(Key{Chip: "mi300x", Operation: AllReduce, Shape: "4GiB", Group: 2})
	if x, ok := pair[0].Rate(); !ok || x != 47.671 {
		t.Errorf("a pair of a mesh: %v %v", x, ok)
	}
	// A row without a median has bounds and no rate.
	spread := table.Of(Key{Chip: "h800-80g-sxm", Operation: Product, Format: "fp8", Shape: "64x*x*"})
	if x, ok := spread[0].Rate(); ok {
		t.Errorf("rate %v of %+v", x, spread[0])
	}
	if _, ok := spread[0].Share(); ok {
		t.Error("a share without a rate")
	}
	if low, high, ok := spread[0].Bounds(); !ok || low != 206 || high != 336 {
		t.Errorf("%v to %v, %v", low, high, ok)
	}
	// S6: whatever differs is not known, and nothing is made up for it.
	for _, other := range []Key{
		{Chip: "h800-80g-sxm", Operation: GroupedProduct, Format: "bf16", Shape: TrainingShape},
		{Chip: "b200", Operation: GroupedProduct, Format: "fp8", Shape: TrainingShape},
		{Chip: "b200", Operation: GroupedProduct, Format: "bf16", Shape: "8x64x128x128"},
		{Chip: "b200", Operation: AttentionForward, Format: "bf16", Shape: TrainingShape},
		{Chip: "mi300x", Operation: AllReduce, Shape: "4GiB", Group: 4},
	} {
		if rows := table.Of(other); len(rows) != 0 {
			t.Errorf("%+v: %+v", other, rows)
		}
	}
	var nothing Measurement
	if _, ok := nothing.Rate(); ok {
		t.Error("nothing has a rate")
	}
	if rows := table.OfChip("ppu-810e"); len(rows) != 0 {
		t.Errorf("%v", rows)
	}
}

const beginTable = "mistura efficiency,1,2026-11-29\nchip,operation,format,shape,group,median,low,high,unit,peak,samples,software,grade,source,date,note\n"

func TestBadTables(t *testing.T) {
	for rows, want := range map[string]string{
		"x,produkt,bf16,best,,1,,,TFLOPS,,,,A,me,2026,\n":                                                `t.csv:3: operation "produkt": no such operation; did you mean "product"?`,
		"x,product,bf17,best,,1,,,TFLOPS,,,,A,me,2026,\n":                                                `t.csv:3: format "bf17": no such number format; write one of fp32`,
		"x,product,bf16,8x8,,1,,,TFLOPS,,,,A,me,2026,\n":                                                 `t.csv:3: shape "8x8": is no shape of product; write best, training, or 3 numbers with x between them, * for any`,
		"x,grouped_product,bf16,8x8x8,,1,,,TFLOPS,,,,A,me,2026,\n":                                       `t.csv:3: shape "8x8x8": is no shape of grouped_product; write best, training, or 4`,
		"x,all_reduce,,training,8,1,,,GB/s,,,,A,me,2026,\n":                                              `t.csv:3: shape "training": is no size; write best or bytes such as 32KiB`,
		"x,all_reduce,,best,,1,,,GB/s,,,,A,me,2026,\n":                                                   `t.csv:3: group: is no group; write how many chips took part`,
		"x,all_reduce,,best,1.5,1,,,GB/s,,,,A,me,2026,\n":                                                `t.csv:3: group "1.5": is not whole`,
		"x,all_reduce,bf16,best,8,1,,,GB/s,,,,A,me,2026,\n":                                              `t.csv:3: format "bf16": does not matter to a collective; leave it empty`,
		"x,copy,bf16,1GiB,,1,,,GB/s,,,,A,me,2026,\n":                                                     `t.csv:3: format "bf16": does not matter to a copy; leave it empty`,
		"x,copy,,1GB,,1,,,GB/s,,,,A,me,2026,\n":                                                          `t.csv:3: shape "1GB": is no size; write best or bytes`,
		"x,copy,,1GiB,2,1,,,GB/s,,,,A,me,2026,\n":                                                        `t.csv:3: group "2": does not matter to copy; leave it empty`,
		"x,copy,,1GiB,,1,,,TFLOPS,,,,A,me,2026,\n":                                                       `t.csv:3: unit "TFLOPS": is not the unit of copy; write GB/s or %`,
		"x,copy,,1GiB,,9,,,GB/s,8,,,A,me,2026,\n":                                                        `t.csv:3: median "9": is more than the peak`,
		"x,product,bf16,best,8,1,,,TFLOPS,,,,A,me,2026,\n":                                               `t.csv:3: group "8": does not matter to product; leave it empty`,
		"x,product,bf16,best,,1,,,GB/s,,,,A,me,2026,\n":                                                  `t.csv:3: unit "GB/s": is not the unit of product; write TFLOPS or %`,
		"x,product,bf16,best,,80,,,%,,,,A,me,2026,\n":                                                    `t.csv:3: peak: is missing, of which % are given`,
		"x,product,bf16,best,,,,,TFLOPS,,,,A,me,2026,\n":                                                 `t.csv:3: median: is missing; write it, or low and high`,
		"x,product,bf16,best,,0,,,TFLOPS,,,,A,me,2026,\n":                                                `t.csv:3: median "0": is 0, which no figure is`,
		"x,product,bf16,best,,5,1,,TFLOPS,,,,A,me,2026,\n":                                               `t.csv:3: low "1": stands without its other end`,
		"x,product,bf16,best,,5,6,9,TFLOPS,,,,A,me,2026,\n":                                              `t.csv:3: median "5": does not lie between low and high`,
		"x,product,bf16,best,,,9,6,TFLOPS,,,,A,me,2026,\n":                                               `t.csv:3: median: does not lie between low and high`,
		"x,product,bf16,best,,1029,,,TFLOPS,989,,,A,me,2026,\n":                                          `t.csv:3: median "1029": is more than the peak: one of the two is of another format, or sparse`, // case F11
		"x,product,bf16,best,,104,,,%,989,,,A,me,2026,\n":                                                `t.csv:3: median "104": is more than the peak`,
		"x,product,bf16,best,,1,,,TFLOPS,,,,A,,2026,\n":                                                  `t.csv:3: source: is missing`,
		"x,product,bf16,best,,1,,,TFLOPS,,,,A,me,2026,\nx,product,bf16,best,,2,,,TFLOPS,,,,A,me,2026,\n": `t.csv:4: shape "best": has a row already`,
		"x,product,bf16,best,,1,,,TFLOPS,,2.5,,A,me,2026,\n":                                             `t.csv:3: samples "2.5": is not whole`,
		"X,product,bf16,best,,1,,,TFLOPS,,,,A,me,2026,\n":                                                `t.csv:3: chip "X": is no name of a chip`,
		"x,product,bf16,best,,1,,,TFLOPS,,,,Z,me,2026,\n":                                                `t.csv:3: grade "Z": is no grade`,
	} {
		_, err := ParseTable("t.csv", []byte(beginTable+rows))
		var in *fault.Input
		if !errors.As(err, &in) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", rows, err, want)
		}
	}
	if _, err := ParseTable("t.csv", []byte(begin)); err == nil || !strings.HasPrefix(err.Error(), `t.csv:1 "mistura chips,1,2026-11-29": is not how a file of mistura efficiency begins`) {
		t.Errorf("a catalogue: %v", err)
	}
	// A collective may exceed its links' rate: a switch that adds up saves transfers.
	if _, err := ParseTable("t.csv", []byte(beginTable+"x,all_reduce,,16GiB,8,480,,,GB/s,450,,,A,me,2026,\n")); err != nil {
		t.Error(err)
	}
}

func TestTablePageIsComplete(t *testing.T) {
	data, err := os.ReadFile("../../docs/formats/efficiency.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range Operations() {
		if row := "| `" + string(o.Operation) + "` | " + o.Means + " |"; !strings.Contains(string(data), row) {
			t.Errorf("the page has no row %s", row)
		}
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add([]byte(strings.Join(strings.SplitAfter(string(builtinTable), "\n")[:30], "")))
	f.Add([]byte(beginTable + "x,grouped_product,fp8,*x*x*x*,,,1,2.5,%,1979,12,s,U,me,2026-01,\"a,b\"\nx,all_gather,,32KiB,8,480,,,GB/s,450,,,A,me,2026,\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := ParseTable("f", data)
		if err != nil {
			if in := (*fault.Input)(nil); !errors.As(err, &in) || strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Fatalf("%q", err)
			}
			return
		}
		text := table.Marshal()
		again, err := ParseTable("f", text)
		if err != nil || !bytes.Equal(again.Marshal(), text) {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, m := range table.Rows {
			x, one := m.Rate()
			low, high, both := m.Bounds()
			if one && x <= 0 || both && (low <= 0 || high < low) || !one && !both {
				t.Fatalf("%+v: %v %v, %v to %v %v", m, x, one, low, high, both)
			}
			if len(table.Of(m.Key)) == 0 {
				t.Fatalf("%+v is not found", m)
			}
		}
	})
}
