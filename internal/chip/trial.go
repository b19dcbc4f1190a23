package chip

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Trial is what was timed of a key on a device.
type Trial struct {
	Key               // its chip does not matter
	Seconds []float64 // of one run, for each repeat; at least one, all above 0
}

// Extents are the numbers of a shape: its dimensions, or its bytes; nil for a shape
// that is none in particular.
func (k Key) Extents() []int {
	k.Chip = "any"
	if column, _, _ := k.check(); column != "" || k.Shape == BestShape || k.Shape == TrainingShape || strings.Contains(k.Shape, "*") {
		return nil
	}
	if o, _ := infoOf(k.Operation); o.Bytes() {
		return []int{bytesOf(k.Shape)}
	}
	var all []int
	for word := range strings.SplitSeq(k.Shape, "x") {
		n, _ := strconv.Atoi(word) // check has looked at it
		all = append(all, n)
	}
	return all
}

// bytesOf is a size such as 32KiB as a number.
func bytesOf(size string) int {
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if digits, ok := strings.CutSuffix(size, unit); ok {
			n, _ := strconv.Atoi(digits)
			return n << (10 * (i + 1))
		}
	}
	n, _ := strconv.Atoi(strings.TrimSuffix(size, "B"))
	return n
}

// Work is what one run counts for, in floating-point operations or bytes; 0 for a shape
// that is none in particular. A multiply-add is two operations. Causal attention
// counts the (T+1)/2 keys that a query sees on average, backward twice as much as
// forward, and nothing for what is computed again. Collectives count what each chip has
// to send at least (bus bandwidth): of n chips 2(n-1)/n of the bytes to add up, (n-1)/n to
// move; bytes are those of the whole tensor.
func (k Key) Work() float64 {
	x := k.Extents()
	if x == nil {
		return 0
	}
	product := 1.0
	for _, n := range x {
		product *= float64(n)
	}
	others := float64(k.Group-1) / float64(k.Group)
	switch k.Operation {
	case AttentionForward:
		return 2 * product * float64(x[0]+1)
	case AttentionBackward:
		return 4 * product * float64(x[0]+1)
	case MemoryCopy:
		return 2 * product
	case AllReduce:
		return 2 * others * product
	case AllGather, ReduceScatter, AllToAll:
		return others * product
	}
	return 2 * product
}

// Origin says on what, with what and when trials were made.
type Origin struct {
	Chip     Chip // what the catalogue says of it, if anything: rates are compared with its peaks
	Software string
	Source   string
	Date     string
}

// Table is what the trials measured: a row for each of them, and over the shapes of an
// operation and format one of the best, of products, and one of them all. Medians,
// lowest and highest are of the repeats, and of the shapes' medians.
func (o Origin) Table(trials []Trial) Table {
	t := Table{Date: o.Date}
	type class struct {
		Operation
		format string
	}
	var classes []class
	of := map[class][]Measurement{}
	for _, trial := range trials {
		rates := make([]float64, len(trial.Seconds))
		for i, s := range trial.Seconds {
			rates[i] = trial.Work() / s / scale(trial.Key)
		}
		c := class{trial.Operation, trial.Format}
		if !slices.Contains(classes, c) {
			classes = append(classes, c)
		}
		of[c] = append(of[c], o.measurement(trial.Key, rates, ""))
	}
	for _, c := range classes {
		if info, _ := infoOf(c.Operation); !info.Bytes() {
			t.Rows = append(t.Rows, o.over(of[c])...)
		}
		t.Rows = append(t.Rows, of[c]...)
	}
	return t
}

// scale is how many operations or bytes the operation's unit has.
func scale(k Key) float64 {
	if k.unit() == perSecond {
		return 1e9
	}
	return 1e12
}

// over sums up the shapes of one operation in one format.
func (o Origin) over(shapes []Measurement) (rows []Measurement) {
	var rates []float64
	var names []string
	best := 0
	for i, m := range shapes {
		x, _ := m.Median.Exact()
		rates, names = append(rates, x), append(names, m.Shape)
		if x > rates[best] {
			best = i
		}
	}
	key := shapes[0].Key
	if key.Operation == Product {
		key.Shape = BestShape
		m := o.measurement(key, rates[best:best+1], "best shape "+names[best])
		m.Samples = Number(float64(len(shapes)))
		rows = append(rows, m)
	}
	key.Shape = TrainingShape
	return append(rows, o.measurement(key, rates, "medians of "+strings.Join(names, " ")))
}

// measurement is a row of rates in the unit of the key.
func (o Origin) measurement(k Key, rates []float64, note string) Measurement {
	rates = slices.Clone(rates)
	for i := range rates {
		rates[i] = written(rates[i])
	}
	slices.Sort(rates)
	n := len(rates)
	k.Chip = o.Chip.Name
	m := Measurement{Key: k, Unit: k.unit(), Software: o.Software, Grade: FirstHand, Source: o.Source, Date: o.Date, Samples: Number(float64(n)),
		Median: Number(written((rates[(n-1)/2] + rates[n/2]) / 2))}
	if n > 1 {
		m.Low, m.High = Number(rates[0]), Number(rates[n-1])
	}
	peak, how, known := o.Chip.Of(o.peak(k)).One()
	switch {
	case o.Above(m):
		how = fmt.Sprintf("more than the %v %s that the catalogue says of %s", peak, m.Unit, k.Chip)
	case known:
		m.Peak = Number(peak)
	}
	m.Note = cut(strings.Join(slices.DeleteFunc([]string{how, note}, func(s string) bool { return s == "" }), "; "))
	return m
}

// Above says that a rate is more than the peak that the catalogue says of the chip: it is
// another chip, or the peak is of another format. Collectives may exceed their links' rate.
func (o Origin) Above(m Measurement) bool {
	peak, _, known := o.Chip.Of(o.peak(m.Key)).One()
	top, _ := m.Median.Exact()
	if high, ok := m.High.Exact(); ok {
		top = high
	}
	return known && top > peak && !m.collective()
}

// peak is the figure of the catalogue that the key's rates are compared with.
func (o Origin) peak(k Key) Field {
	switch {
	case k.Operation == MemoryCopy:
		return BandwidthGBs
	case k.collective() && k.Group == 2 && o.Chip.Of(LinkKind).Text() == Mesh:
		return PairGBs
	case k.collective():
		return LinkGBs
	}
	field, _ := Peak(k.Format)
	return field
}

// written rounds a rate to four digits, as many as a file has room for; what is too
// small for one is the smallest that is none.
func written(x float64) float64 {
	const places = 6 // behind the point, see decimal
	x = min(most, max(math.Pow10(-places), x))
	digits := min(places, max(0, 3-int(math.Floor(math.Log10(x)))))
	shift := math.Pow10(digits)
	return math.Round(x*shift) / shift
}

// cut keeps a cell within its bounds.
func cut(s string) string {
	if r := []rune(s); len(r) > maxRunes {
		return strings.TrimSpace(string(r[:maxRunes-1])) + "…"
	}
	return s
}
