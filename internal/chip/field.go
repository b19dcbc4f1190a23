package chip

import (
	"regexp"
	"slices"
	"strings"
)

// Field names a figure of a chip.
type Field string

// Fields, in the order in which they are shown. Rates are of one chip (package) and
// peaks dense; links are counted in one direction.
const (
	Title        Field = "title"
	Vendor       Field = "vendor"
	Year         Field = "year"
	Arch         Field = "arch"
	FP32         Field = "fp32"
	TF32         Field = "tf32"
	HF32         Field = "hf32"
	BF16         Field = "bf16"
	FP16         Field = "fp16"
	FP8          Field = "fp8"
	INT8         Field = "int8"
	FP4          Field = "fp4"
	MemoryGB     Field = "memory"
	MemoryKind   Field = "memory_kind"
	BandwidthGBs Field = "bandwidth"
	LinkKind     Field = "link_kind"
	LinkGBs      Field = "link"
	PairGBs      Field = "link_pair"
	LinkGroup    Field = "link_group"
	NodeChips    Field = "node_chips"
	NodeNICs     Field = "node_nics"
	NICGbits     Field = "nic"
	HostLinkGBs  Field = "host_link"
	Dies         Field = "dies"
	Devices      Field = "devices"
	TDPWatts     Field = "tdp"
	MTBFHours    Field = "mtbf"
	Price        Field = "price"
	Numeric      Field = "numeric"
	Torch        Field = "torch"
	Collectives  Field = "collectives"
	Frameworks   Field = "frameworks"
	Resource     Field = "resource"
	Visible      Field = "visible"
	Quirk        Field = "quirk"
)

// Kinds of link between the chips of a group.
const (
	Switch = "switch"
	Mesh   = "mesh"
	Torus  = "torus"
)

// FieldInfo says what a field holds.
type FieldInfo struct {
	Field Field
	Means string
	Unit  string   // empty for text; of a price CURRENCY/h
	Whole bool     // numbers are whole
	Words []string // the only texts that it may hold, if any
	Many  bool     // a chip may have several
}

// text says that the field holds text.
func (i FieldInfo) text() bool { return i.Unit == "" }

const tflops = "TFLOPS"

// Fields lists all fields.
func Fields() []FieldInfo {
	return []FieldInfo{
		{Field: Title, Means: "what people call it"},
		{Field: Vendor, Means: "who makes it"},
		{Field: Year, Means: "first year on sale", Unit: "year", Whole: true},
		{Field: Arch, Means: "architecture, as its tools name it"},
		{Field: FP32, Means: "dense peak in fp32, without a faster format in its place", Unit: tflops},
		{Field: TF32, Means: "dense peak of fp32 products on rounded inputs: TF32, xf32 and their like", Unit: tflops},
		{Field: HF32, Means: "the same in Huawei's HF32", Unit: tflops},
		{Field: BF16, Means: "dense peak in bf16", Unit: tflops},
		{Field: FP16, Means: "dense peak in fp16", Unit: tflops},
		{Field: FP8, Means: "dense peak in fp8", Unit: tflops},
		{Field: INT8, Means: "dense peak in int8", Unit: "TOPS"},
		{Field: FP4, Means: "dense peak in fp4", Unit: tflops},
		{Field: MemoryGB, Means: "device memory, as the vendor states it: these GB are 2^30 bytes", Unit: "GB"},
		{Field: MemoryKind, Means: "its technology"},
		{Field: BandwidthGBs, Means: "of device memory", Unit: "GB/s"},
		{Field: LinkKind, Means: "how the chips of a group are linked", Words: []string{Switch, Mesh, Torus}},
		{Field: LinkGBs, Means: "all links of a chip together, one direction", Unit: "GB/s"},
		{Field: PairGBs, Means: "between two chips of a mesh, one direction", Unit: "GB/s"},
		{Field: LinkGroup, Means: "chips that these links join", Unit: "chips", Whole: true},
		{Field: NodeChips, Means: "chips in a host", Unit: "chips", Whole: true},
		{Field: NodeNICs, Means: "network cards in a host", Unit: "NICs", Whole: true},
		{Field: NICGbits, Means: "network rate for each chip, one direction", Unit: "Gbit/s"},
		{Field: HostLinkGBs, Means: "between a chip and its host's memory, one direction", Unit: "GB/s"},
		{Field: Dies, Means: "compute dies in a package", Unit: "dies", Whole: true},
		{Field: Devices, Means: "devices that software counts in a package", Unit: "devices", Whole: true},
		{Field: TDPWatts, Means: "power, as the vendor limits it", Unit: "W"},
		{Field: MTBFHours, Means: "mean hours of one chip between two interruptions of a job", Unit: "h"},
		{Field: Price, Means: "of a chip for an hour, one row an offer", Unit: "CURRENCY/h", Many: true},
		{Field: Numeric, Means: "profile of its arithmetic, see docs/engine.md"},
		{Field: Torch, Means: "device type in PyTorch"},
		{Field: Collectives, Means: "collective library"},
		{Field: Frameworks, Means: "training software that names it"},
		{Field: Resource, Means: "what Kubernetes schedules it as"},
		{Field: Visible, Means: "environment variable that hides devices from a process"},
		{Field: Quirk, Means: "what is unlike other chips in its arithmetic or tools", Many: true},
	}
}

// info finds a field.
func info(f Field) (FieldInfo, bool) {
	all := Fields()
	i := slices.IndexFunc(all, func(x FieldInfo) bool { return x.Field == f })
	if i < 0 {
		return FieldInfo{}, false
	}
	return all[i], true
}

var perHour = regexp.MustCompile(`^[A-Z]{3}/h$`)

// takes says whether the field's numbers may have that unit.
func (i FieldInfo) takes(unit string) bool {
	if i.Field == Price {
		return perHour.MatchString(unit)
	}
	return unit == i.Unit
}

// Peak is the field of the dense peak in a number format.
func Peak(format string) (Field, bool) {
	switch f := Field(strings.ToLower(format)); f {
	case FP32, TF32, HF32, BF16, FP16, FP8, INT8, FP4:
		return f, true
	}
	return "", false
}
