package chip

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine/numeric"
	"github.com/mistura-project/mistura/internal/fault"
)

// The built-in file is as Marshal writes it, so that a diff shows what changed and
// nothing else.
func TestBuiltinIsWrittenAsItIsRead(t *testing.T) {
	if got := Builtin().Marshal(); !bytes.Equal(got, builtin) {
		at := 0
		for at < min(len(got), len(builtin)) && got[at] == builtin[at] {
			at++
		}
		t.Errorf("differs from catalogue.csv in line %d", 1+bytes.Count(got[:at], []byte("\n")))
	}
}

func TestEveryEntryIsWhole(t *testing.T) {
	for _, c := range Builtin().Chips() {
		for _, f := range []Field{Title, BF16, MemoryGB} {
			if len(c.All(f)) == 0 {
				t.Errorf("%s has no %s; say unknown with the reason, if nobody knows", c.Name, f)
			}
		}
		for _, info := range Fields() {
			for _, f := range c.All(info.Field) {
				if f.Known() && (f.Source == "" || f.Date == "" || f.Grade.Means() == "") {
					t.Errorf("%s.%s: %v without grade, source or date", c.Name, info.Field, f.Value)
				}
			}
		}
	}
}

// What is shown as a mesh has pairs that do not exceed the whole, and no other link has pairs.
func TestLinksAreConsistent(t *testing.T) {
	for _, c := range Builtin().Chips() {
		kind := c.Of(LinkKind)
		_, pair, paired := c.Of(PairGBs).Range()
		_, all, linked := c.Of(LinkGBs).Range()
		switch {
		case paired && kind.Text() != Mesh:
			t.Errorf("%s has a rate for pairs and is no mesh", c.Name)
		case paired && linked && pair > all:
			t.Errorf("%s has %v GB/s for a pair, and %v for all", c.Name, pair, all)
		case kind.None() && (linked || paired):
			t.Errorf("%s has links and has none", c.Name)
		}
	}
}

// Numeric profiles and the catalogue use the same names.
func TestNumericProfiles(t *testing.T) {
	all := Builtin()
	for _, c := range all.Chips() {
		f := c.Of(Numeric)
		if !f.Known() {
			continue
		}
		if _, err := numeric.Find(f.Text()); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	for _, p := range numeric.Profiles() {
		if !strings.Contains(p.Name, "-") || strings.HasPrefix(p.Name, "fp8-") {
			continue // a number format
		}
		c, err := all.Find(p.Name)
		if err != nil || c.Of(Numeric).Text() != p.Name {
			t.Errorf("numeric profile %s is not that of the chip: %v", p.Name, err)
		}
	}
}

// Links and bandwidths of the devices of the Ling report are those of the chips that
// they look like, and say so.
func TestLingDevices(t *testing.T) {
	all := Builtin()
	for device, like := range map[string]string{"a": "ascend-910b2", "b": "ppu-810e", "c": "a100-80g-sxm", "d": "h800-80g-sxm", "e": "h20"} {
		c, err := all.Find("ling-2025-" + device)
		if err != nil {
			t.Fatal(err)
		}
		model, err := all.Find(like)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []Field{Arch, BandwidthGBs, LinkKind, LinkGBs, PairGBs, LinkGroup, NodeChips, NodeNICs, NICGbits, HostLinkGBs, Numeric} {
			got, want := c.Of(f), model.Of(f)
			if !got.Value.Equal(want.Value) {
				t.Errorf("%s.%s is %v, of %s %v", c.Name, f, got, like, want)
			}
			if got.Known() && (got.Grade != Assumed || got.Source != "as "+like) {
				t.Errorf("%s.%s does not say that it is assumed", c.Name, f)
			}
		}
		if p := c.Prices("CNY"); len(p) != 1 || p[0].Grade != FirstHand {
			t.Errorf("%s: prices %v", c.Name, p)
		}
	}
}

// Case F11: peaks are dense. The figures are Nvidia's and AMD's without sparsity.
func TestPeaksAreDense(t *testing.T) {
	for name, want := range map[string]float64{"a100-80g-sxm": 312, "h100-80g-sxm": 989, "b200": 2250, "mi300x": 1307} {
		c, err := Builtin().Find(name)
		if err != nil {
			t.Fatal(err)
		}
		field, ok := Peak("bf16")
		if x, exact := c.Of(field).Exact(); !ok || !exact || x != want {
			t.Errorf("%s: %v, want %v", name, c.Of(field), want)
		}
	}
}

// Case F12: how a price is had stays with it, and is not made up where the source does
// not say.
func TestF12PricesSayHowTheyAreHad(t *testing.T) {
	c, err := Builtin().Find("h100-80g-sxm")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, p := range c.Prices("USD") {
		got[p.Offer()]++
	}
	for _, offer := range append(Offers(), "") {
		if got[offer] == 0 {
			t.Errorf("no price of the H100 is %q: %v", offer, got)
		}
	}
	if got := (Figure{Note: "spotless"}).Offer(); got != "" {
		t.Errorf("%q is taken for an offer", got)
	}
}

func TestUnknownIsNoNumber(t *testing.T) {
	c, err := Builtin().Find("ppu-810e")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []Figure{c.Of(BandwidthGBs), c.Of(Price), c.Of(MTBFHours), c.Of(FP8), {}, {Value: Hull()}} {
		if low, high, ok := f.Range(); ok {
			t.Errorf("%v gives %v to %v", f, low, high)
		}
		if x, ok := f.Exact(); ok {
			t.Errorf("%v gives %v", f, x)
		}
	}
	if c.Of(FP8).Known() == c.Of(BandwidthGBs).Known() {
		t.Error("what the chip has not and what nobody knows look alike")
	}
	if got := Worst(Figure{}, c.Of(BandwidthGBs)); got != "" {
		t.Errorf("unknown has grade %s", got)
	}
}

func TestOver(t *testing.T) {
	mine, err := Parse("mine.csv", []byte(begin+
		"ascend-910b2,price,5.5,CNY/h,A,our contract,2026-11-29,\nascend-910b2,bf16,unknown,,,,,\nnew,memory,12,GB,A,me,2026,\n"))
	if err != nil {
		t.Fatal(err)
	}
	all := mine.Over(Builtin())
	c, err := all.Find("ascend-910b2")
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Prices("CNY"); len(p) != 1 || p[0].Value.String() != "5.5" {
		t.Errorf("price %v", p)
	}
	if c.Of(BF16).Known() || !c.Of(FP32).Known() {
		t.Errorf("bf16 %v, fp32 %v", c.Of(BF16), c.Of(FP32))
	}
	if names := all.Names(); names[len(names)-1] != "new" || len(names) != len(Builtin().Names())+1 {
		t.Errorf("names %v", names)
	}
	if below, _ := Builtin().Find("ascend-910b2"); !below.Of(BF16).Known() {
		t.Error("the catalogue below has changed")
	}
}

const begin = "mistura chips,1,2026-11-29\nchip,field,value,unit,grade,source,date,note\n"

// Bad files are refused with place, value and what to do.
func TestBadFiles(t *testing.T) {
	for _, c := range []struct{ rows, want string }{
		{"x,bf17,98,TFLOPS,A,me,2026,\n", `mine.csv:3: field "bf17": no such field; did you mean "bf16"?`},
		{"x,bf16,98x,TFLOPS,A,me,2026,\n", `mine.csv:3: value "98x": is no number; write bf16 as a number such as 376, a range 354..376, variants 8 or 72, none or unknown`},
		{"x,bf16,0,TFLOPS,A,me,2026,\n", `mine.csv:3: value "0": is 0, which no figure is; write bf16 as`},
		{"x,bf16,-1,TFLOPS,A,me,2026,\n", `mine.csv:3: value "-1": is no number`},
		{"x,bf16,1e3,TFLOPS,A,me,2026,\n", `mine.csv:3: value "1e3": is no number`},
		{"x,bf16,NaN,TFLOPS,A,me,2026,\n", `mine.csv:3: value "NaN": is no number`},
		{"x,bf16,9999999999,TFLOPS,A,me,2026,\n", `mine.csv:3: value "9999999999": is too large`},
		{"x,bf16,376..354,TFLOPS,A,me,2026,\n", `mine.csv:3: value "376..354": has numbers that do not rise`},
		{"x,bf16,,TFLOPS,A,me,2026,\n", `mine.csv:3: value: is missing; write unknown, or leave the row out`},
		{"x,bf16,98,PFLOPS,A,me,2026,\n", `mine.csv:3: unit "PFLOPS": is not the unit of bf16 98; write TFLOPS`},
		{"x,title,X,TFLOPS,A,me,2026,\n", `mine.csv:3: unit "TFLOPS": is not the unit of title X; write none`},
		{"x,price,3,USD,A,me,2026,\n", `mine.csv:3: unit "USD": is not the unit of price 3; write a currency an hour, such as USD/h or CNY/h`},
		{"x,price,none,,A,me,2026,\n", `mine.csv:3: value "none": is no number`},
		{"x,bf16,98,TFLOPS,E,me,2026,\n", `mine.csv:3: grade "E": is no grade; write A (first-hand), B (secondary), C (general knowledge), D (assumed), U (doubtful)`},
		{"x,bf16,98,TFLOPS,A,,2026,\n", `mine.csv:3: source: is missing; say who says so, or make the value unknown`},
		{"x,bf16,98,TFLOPS,A,me,26,\n", `mine.csv:3: date "26": is no date; write when`},
		{"x,bf16,98,TFLOPS,A,me,2026-02-30,\n", `mine.csv:3: date "2026-02-30": is no date; write when`},
		{"x,bf16,unknown,,A,me,2026,\n", `mine.csv:3: value "unknown": has grade, source or date; leave them empty, and say in the note why it is not known`},
		{"x,dies,1.5,dies,A,me,2026,\n", `mine.csv:3: value "1.5": is not whole; write dies in whole dies`},
		{"x,link_kind,ring,,A,me,2026,\n", `mine.csv:3: value "ring": is no link_kind; write switch, mesh, torus, none or unknown`},
		{"X y,bf16,98,TFLOPS,A,me,2026,\n", `mine.csv:3: chip "X y": is no name of a chip; write lower-case letters`},
		{"x,bf16,98,TFLOPS,A,me,2026\n", `mine.csv:3: has 7 cells, not 8; fill chip,field,value,unit,grade,source,date,note; a cell with a comma stands in "…"`},
		{"x,bf16,98,TFLOPS,A,me,2026,\nx,bf16,99,TFLOPS,A,me,2026,\n", `mine.csv:4: field "bf16": is said twice of x; keep one row; where sources disagree write a range such as 354..376`},
		{"x,price,3,USD/h,A,me,2026,\nx,price,unknown,,,,,\n", `mine.csv:4: value "unknown": does not go with the other rows of price of x`},
		{"x,bf16,98,TFLOPS,A,me,2026,\"a\x1bb\"\n", `mine.csv:3: note`},
		{"x,title,a\"b,,A,me,2026,\n", `mine.csv:3: is no line of comma-separated values: bare " in non-quoted-field`},
	} {
		checkRefused(t, begin+c.rows, c.want)
	}
	for text, want := range map[string]string{
		"":                                `mine.csv: ends before its first row; begin with the lines "mistura chips,2,2026-11-29"`,
		"mistura chips,1,2026-11-29\n":    `mine.csv: ends before its first row`,
		"chip,field\n":                    `mine.csv:1 "chip,field": is not how a file of mistura chips begins`,
		"mistura chips,3,2026-11-29\n":    `mine.csv:1: format "3": is newer than 2, which this mistura reads; use a newer mistura`,
		"mistura chips,x,2026-11-29\n":    `mine.csv:1: format "x": is no format`,
		"mistura chips,1,today\n":         `mine.csv:1: date "today": is no date; write it as 2026-11-29`,
		"mistura chips,1,2026\nchip,unit": `mine.csv:2 "chip,unit": are not the columns; write chip,field,value,unit,grade,source,date,note`,
		strings.Repeat("x", maxBytes+1):   `mine.csv: has 4194305 bytes, at most 4194304 are read`,
	} {
		checkRefused(t, text, want)
	}
}

func checkRefused(t *testing.T, text, want string) {
	t.Helper()
	_, err := Parse("mine.csv", []byte(text))
	var in *fault.Input
	switch {
	case !errors.As(err, &in):
		t.Errorf("%q: %v, want bad input", text, err)
	case !strings.HasPrefix(err.Error(), want):
		t.Errorf("%q:\n got %s\nwant %s", text, err, want)
	}
}

// A spreadsheet's byte order mark, line ends and empty cells are no fault, nor comments.
func TestSpreadsheets(t *testing.T) {
	text := "\ufeffmistura chips,1,2026-11-29,,,,,\r\nchip,field,value,unit,grade,source,date,note\r\n# mine\r\nx,memory,64,GB,A,me,2026,\r\n"
	c, err := Parse("mine.csv", []byte(text))
	if err != nil || !slices.Equal(c.Names(), []string{"x"}) {
		t.Errorf("%v, %v", c.Names(), err)
	}
}

func TestFindSuggests(t *testing.T) {
	for name, want := range map[string]string{
		"h800":         `chip "h800": is not in the catalogue; did you mean h800-80g-sxm? mistura chips lists them`,
		"ascend-910":   `chip "ascend-910": is not in the catalogue; did you mean ascend-910a or ascend-910b1 or ascend-910b2 or`,
		"ascend-901b2": `chip "ascend-901b2": is not in the catalogue; did you mean ascend-910b2? mistura chips lists them`,
		"":             `chip: is not in the catalogue; mistura chips lists them`,
	} {
		if _, err := Builtin().Find(name); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// docs/formats/chips.md describes every field and grade.
func TestPageIsComplete(t *testing.T) {
	data, err := os.ReadFile("../../docs/formats/chips.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for _, f := range Fields() {
		unit := f.Unit
		if unit == "" {
			unit = "text"
		}
		if row := "| `" + string(f.Field) + "` | " + unit + " |"; !strings.Contains(page, row) {
			t.Errorf("the page has no row %s", row)
		}
	}
	for _, g := range Grades() {
		if row := "| " + string(g) + " | " + g.Means() + " |"; !strings.Contains(page, row) {
			t.Errorf("the page has no row %s", row)
		}
	}
}

// Whatever a file holds, it is refused as bad input on one line, or written and read
// to the same; and nothing unknown has become a number.
func FuzzParse(f *testing.F) {
	f.Add([]byte(strings.Join(strings.SplitAfter(string(builtin), "\n")[:40], "")))
	f.Add([]byte(begin + "x,price,1 or 2.5,USD/h,D,me,2026-01,\"a,b\"\nx,bf16,unknown,,,,,why\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			if in := (*fault.Input)(nil); !errors.As(err, &in) || strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Fatalf("%q", err)
			}
			return
		}
		text := c.Marshal()
		again, err := Parse("f", text)
		if err != nil || !bytes.Equal(again.Marshal(), text) {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, chip := range c.Chips() {
			for _, info := range Fields() {
				for _, fig := range chip.All(info.Field) {
					low, high, ok := fig.Range()
					if ok && (low <= 0 || high < low) || !fig.Known() && ok {
						t.Fatalf("%s.%s: %v gives %v to %v, %v", chip.Name, info.Field, fig, low, high, ok)
					}
				}
			}
		}
	})
}
