package chip

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Operation is a kind of work that is measured.
type Operation string

// Operations. A grouped product is one of each of a set of experts.
const (
	Product           Operation = "product"
	ProductGradient   Operation = "product_wgrad" // of a product's weights
	GroupedProduct    Operation = "grouped_product"
	GroupedGradient   Operation = "grouped_wgrad"
	AttentionForward  Operation = "attention"
	AttentionBackward Operation = "attention_grad"
	AllReduce         Operation = "all_reduce"
	AllGather         Operation = "all_gather"
	ReduceScatter     Operation = "reduce_scatter"
	AllToAll          Operation = "all_to_all"
	MemoryCopy        Operation = "copy"
)

// Shapes that are none in particular.
const (
	BestShape     = "best"     // the best that was found
	TrainingShape = "training" // those of training runs
)

// OperationInfo says what is measured of an operation.
type OperationInfo struct {
	Operation  Operation
	Means      string
	Dimensions int  // of a shape; 0: bytes are moved, and the shape is their number
	Collective bool // of a group of chips
}

// Bytes says that the operation moves bytes, and computes nothing.
func (i OperationInfo) Bytes() bool { return i.Dimensions == 0 }

// infoOf finds an operation.
func infoOf(o Operation) (OperationInfo, bool) {
	all := Operations()
	i := slices.IndexFunc(all, func(x OperationInfo) bool { return x.Operation == o })
	if i < 0 {
		return OperationInfo{}, false
	}
	return all[i], true
}

// Operations lists all operations.
func Operations() []OperationInfo {
	return []OperationInfo{
		{Product, "product of matrices, `MxNxK`", 3, false},
		{ProductGradient, "the gradient of its weights, `MxNxK`", 3, false},
		{GroupedProduct, "product for each of E experts, `ExMxNxK`, M rows each", 4, false},
		{GroupedGradient, "the gradient of their weights, `ExMxNxK`", 4, false},
		{AttentionForward, "causal attention, forward, `TxHxD`: tokens, heads, width of a head", 3, false},
		{AttentionBackward, "causal attention, backward, `TxHxD`", 3, false},
		{AllReduce, "bus bandwidth", 0, true},
		{AllGather, "bus bandwidth", 0, true},
		{ReduceScatter, "bus bandwidth", 0, true},
		{AllToAll, "bus bandwidth", 0, true},
		{MemoryCopy, "copying within the device's memory, bytes read and bytes written", 0, false},
	}
}

// Key says what was measured. Two keys that differ in anything are strangers: what
// was measured of one says nothing of the other.
type Key struct {
	Chip      string
	Operation Operation
	Format    string // number format of the inputs; empty for collectives
	Shape     string // best, training (over the shapes of training runs), dimensions, or bytes such as 16GiB
	Group     int    // chips in a collective; 0 for others
}

// Measurement is what somebody measured. Median, Low and High are in Unit; each is
// unknown or a number.
type Measurement struct {
	Key
	Median, Low, High Value  // of all shapes, or the one number
	Unit              string // TFLOPS, GB/s, or % of Peak
	Peak              Value  // dense peak or link rate that the source compares with, in TFLOPS or GB/s
	Samples           Value  // shapes or runs behind it
	Software          string // empty: not stated
	Grade             Grade
	Source, Date      string
	Note              string
}

// Rate is the median in TFLOPS or GB/s; ok is false when nobody knows it.
func (m Measurement) Rate() (x float64, ok bool) { return m.absolute(m.Median) }

// Bounds are the lowest and the highest in TFLOPS or GB/s; ok is false when one of
// them is not known.
func (m Measurement) Bounds() (low, high float64, ok bool) {
	low, ok = m.absolute(m.Low)
	if !ok {
		return 0, 0, false
	}
	high, ok = m.absolute(m.High)
	return low, high, ok
}

// Share is the median as a part of the peak that the source compares with.
func (m Measurement) Share() (x float64, ok bool) {
	rate, ok := m.Rate()
	peak, known := m.Peak.Exact()
	if !ok || !known {
		return 0, false
	}
	return rate / peak, true
}

// absolute turns a share into a rate.
func (m Measurement) absolute(v Value) (float64, bool) {
	x, ok := v.Exact()
	if !ok || m.Unit != percent {
		return x, ok
	}
	peak, ok := m.Peak.Exact()
	return x / 100 * peak, ok
}

const (
	percent   = "%"
	perSecond = "GB/s"
)

// Table is what was measured on chips.
type Table struct {
	Date string
	Rows []Measurement
}

// Of gives every measurement with that key; none: unknown. Nothing is estimated from
// other shapes, formats or groups.
func (t Table) Of(k Key) []Measurement {
	return t.where(func(m Measurement) bool { return m.Key == k })
}

// OfChip gives every measurement on a chip.
func (t Table) OfChip(name string) []Measurement {
	return t.where(func(m Measurement) bool { return m.Chip == name })
}

func (t Table) where(is func(Measurement) bool) []Measurement {
	var some []Measurement
	for _, m := range t.Rows {
		if is(m) {
			some = append(some, m)
		}
	}
	return some
}

var (
	dimensions = regexp.MustCompile(`^([1-9][0-9]{0,8}|\*)(x([1-9][0-9]{0,8}|\*)){2,3}$`)
	sizes      = regexp.MustCompile(`^[1-9][0-9]{0,3}(B|KiB|MiB|GiB)$`)
)

// check says what is wrong with a key: the column, the problem and what to write.
func (k Key) check() (column, problem, next string) {
	o, ok := infoOf(k.Operation)
	if !ok {
		var names []string
		for _, o := range Operations() {
			names = append(names, string(o.Operation))
		}
		return "operation", "no such operation", didYouMean(string(k.Operation), names)
	}
	who := "a " + string(o.Operation)
	if o.Collective {
		who = "a collective"
	}
	_, number := Peak(k.Format)
	switch {
	case !chipName.MatchString(k.Chip):
		return "chip", "is no name of a chip", "write lower-case letters, digits and hyphens, such as h800-80g-sxm"
	case o.Bytes() && k.Format != "":
		return "format", "does not matter to " + who, "leave it empty"
	case o.Bytes() && k.Shape != BestShape && !sizes.MatchString(k.Shape):
		return "shape", "is no size", "write " + BestShape + " or bytes such as 32KiB, 256MiB, 16GiB"
	case o.Collective && k.Group < 2:
		return "group", "is no group", "write how many chips took part"
	case o.Collective:
		return "", "", ""
	case o.Bytes():
	case !number:
		return "format", "no such number format", "write one of fp32, tf32, hf32, bf16, fp16, fp8, int8, fp4"
	case k.Shape == BestShape || k.Shape == TrainingShape:
	case !dimensions.MatchString(k.Shape) || strings.Count(k.Shape, "x")+1 != o.Dimensions:
		return "shape", "is no shape of " + string(k.Operation), fmt.Sprintf("write %s, %s, or %d numbers with x between them, * for any", BestShape, TrainingShape, o.Dimensions)
	}
	if k.Group != 0 {
		return "group", "does not matter to " + string(k.Operation), "leave it empty"
	}
	return "", "", ""
}

// group is the cell of a group.
func (k Key) group() string {
	if k.Group == 0 {
		return ""
	}
	return strconv.Itoa(k.Group)
}
