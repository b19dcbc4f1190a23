package published

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/fault"
)

// Bounds of a file and of its numbers: far above what is published.
const (
	MaxBytes = 64 << 20
	maxCount = 1 << 30
)

// column says where the cells of a column go.
type column struct {
	name     string
	required bool
	text     func(*Run) *string
	count    func(*Run) *Count
	least    int // of a count
	amount   func(*Run) *Amount
}

// columns lists all columns that are read. Those without which no run could be
// compared are required; what else a file has is passed over.
func columns() []column {
	text := func(name string, at func(*Run) *string) column { return column{name: name, text: at} }
	count := func(name string, least int, at func(*Run) *Count) column {
		return column{name: name, count: at, least: least}
	}
	amount := func(name string, at func(*Run) *Amount) column { return column{name: name, amount: at} }
	need := func(c column) column { c.required = true; return c }
	return []column{
		need(text("id", func(r *Run) *string { return &r.ID })), need(text("source", func(r *Run) *string { return &r.Source })),
		text("grade", func(r *Run) *string { return &r.Grade }), count("year", 1, func(r *Run) *Count { return &r.Year }),
		need(text("model", func(r *Run) *string { return &r.Model })),
		amount("params_b", func(r *Run) *Amount { return &r.ParamsB }), amount("active_b", func(r *Run) *Amount { return &r.ActiveB }),
		need(count("layers", 1, func(r *Run) *Count { return &r.Layers })), need(count("hidden", 1, func(r *Run) *Count { return &r.Hidden })),
		need(count("heads", 1, func(r *Run) *Count { return &r.Heads })), count("kv_heads", 1, func(r *Run) *Count { return &r.KVHeads }),
		count("ffn", 0, func(r *Run) *Count { return &r.FFN }), count("vocab", 1, func(r *Run) *Count { return &r.Vocab }),
		count("experts", 0, func(r *Run) *Count { return &r.Experts }), count("topk", 0, func(r *Run) *Count { return &r.TopK }),
		count("shared", 0, func(r *Run) *Count { return &r.Shared }), count("moe_ffn", 0, func(r *Run) *Count { return &r.ExpertFFN }),
		count("dense_layers", 0, func(r *Run) *Count { return &r.DenseFirst }),
		count("mtp", 0, func(r *Run) *Count { return &r.MTP }), count("tied", 0, func(r *Run) *Count { return &r.Tied }),
		need(count("seq", 1, func(r *Run) *Count { return &r.Sequence })), need(count("global_batch_seqs", 1, func(r *Run) *Count { return &r.Batch })),
		count("micro_batch", 1, func(r *Run) *Count { return &r.MicroBatch }), count("grad_accum", 1, func(r *Run) *Count { return &r.Accumulation }),
		need(text("chip_id", func(r *Run) *string { return &r.ChipID })), text("chip", func(r *Run) *string { return &r.Chip }),
		need(count("chips", 1, func(r *Run) *Count { return &r.Chips })),
		need(count("tp", 1, func(r *Run) *Count { return &r.TP })), need(count("pp", 1, func(r *Run) *Count { return &r.PP })),
		need(count("dp", 1, func(r *Run) *Count { return &r.DP })), count("vpp", 1, func(r *Run) *Count { return &r.VPP }),
		count("ep", 1, func(r *Run) *Count { return &r.EP }), count("cp", 1, func(r *Run) *Count { return &r.CP }),
		count("etp", 1, func(r *Run) *Count { return &r.ETP }),
		text("zero", func(r *Run) *string { return &r.ZeRO }), text("recompute", func(r *Run) *string { return &r.Recompute }),
		need(text("dtype", func(r *Run) *string { return &r.Dtype })),
		text("schedule", func(r *Run) *string { return &r.Schedule }), text("async_tp", func(r *Run) *string { return &r.AsyncTP }),
		text("optimizer", func(r *Run) *string { return &r.Optimizer }), text("cuda_graph", func(r *Run) *string { return &r.CUDAGraph }),
		count("seq_parallel", 0, func(r *Run) *Count { return &r.SequenceParallel }), text("routing", func(r *Run) *string { return &r.Routing }),
		need(text("measured_metric", func(r *Run) *string { return &r.Metric })), need(amount("measured_value", func(r *Run) *Amount { return &r.Measured })),
		need(text("unit", func(r *Run) *string { return &r.Unit })), amount("peak_mem_gib", func(r *Run) *Amount { return &r.PeakMemoryGiB }),
		text("software", func(r *Run) *string { return &r.Software }), amount("nic_gbit_per_node", func(r *Run) *Amount { return &r.NodeNICGbits }),
		text("notes", func(r *Run) *string { return &r.Notes }),
	}
}

// Parse reads a table of published runs. A file that is none is refused; a cell that
// cannot be read is unknown, and [Run.Faults] says why. Every error is a *fault.Input.
func Parse(name string, data []byte) ([]Run, error) {
	if len(data) > MaxBytes {
		return nil, &fault.Input{Where: name, Problem: fmt.Sprintf("has %d bytes, at most %d are read", len(data), MaxBytes), Next: "give a table of published runs"}
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	r.FieldsPerRecord = -1
	names, err := r.Read()
	if err != nil {
		return nil, unreadable(name, err)
	}
	at, err := places(name, names)
	if err != nil {
		return nil, err
	}
	var runs []Run
	lines := make(map[string]int)
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return runs, nil
		}
		if err != nil {
			return nil, unreadable(name, err)
		}
		line, _ := r.FieldPos(0)
		if len(cells) != len(names) {
			return nil, &fault.Input{Where: fmt.Sprintf("%s:%d", name, line), Problem: fmt.Sprintf("has %d cells, but there are %d columns", len(cells), len(names)), Next: `write a cell with a comma as "…"`}
		}
		run := read(name, line, at, cells)
		where := fmt.Sprintf("%s:%d: id", name, line)
		switch first, twice := lines[run.ID]; {
		case run.ID == "":
			return nil, &fault.Input{Where: where, Problem: "is missing", Next: "give each run an id of its own"}
		case twice:
			return nil, &fault.Input{Where: where, Value: fault.Clip(run.ID), Problem: fmt.Sprintf("stands in line %d, too", first), Next: "give each run an id of its own"}
		}
		lines[run.ID] = line
		runs = append(runs, run)
	}
}

// place is a column and where it stands in the file.
type place struct {
	column
	index int
}

// places finds the columns.
func places(name string, names []string) ([]place, error) {
	var found []place
	var missing []string
	for _, c := range columns() {
		i := slices.Index(names, c.name)
		switch {
		case i < 0 && c.required:
			missing = append(missing, c.name)
		case i < 0:
		case slices.Contains(names[i+1:], c.name):
			return nil, &fault.Input{Where: name + ":1", Value: c.name, Problem: "is the name of two columns", Next: "name one of them otherwise"}
		default:
			found = append(found, place{c, i})
		}
	}
	if len(missing) > 0 {
		return nil, &fault.Input{Where: name + ":1", Problem: "lacks the columns " + strings.Join(missing, ", "), Next: "add them; cells may be empty"}
	}
	return found, nil
}

func unreadable(name string, err error) error {
	if errors.Is(err, io.EOF) {
		return &fault.Input{Where: name, Problem: "is empty", Next: "begin with the names of the columns"}
	}
	var p *csv.ParseError
	if errors.As(err, &p) {
		return fault.NotSeparated(name, p)
	}
	return &fault.Input{Where: name, Problem: "cannot be read: " + err.Error(), Next: "give a file of comma-separated values"}
}

// read fills a run from the cells of a line.
func read(name string, line int, at []place, cells []string) Run {
	run := Run{Line: line, Faults: make(map[string]error)}
	for _, p := range at {
		cell := strings.TrimSpace(cells[p.index])
		if cell == "" {
			continue
		}
		if problem, next := p.put(&run, cell); problem != "" {
			run.Faults[p.name] = &fault.Input{Where: fmt.Sprintf("%s:%d: %s", name, line, p.name), Value: fault.Clip(cell), Problem: problem, Next: next}
		}
	}
	return run
}

// put reads a cell. A problem leaves the field unknown.
func (c column) put(run *Run, cell string) (problem, next string) {
	const leave = "; leave it empty if it is not stated"
	switch {
	case c.text != nil:
		if !utf8.ValidString(cell) || strings.ContainsFunc(cell, unicode.IsControl) {
			return "has characters that cannot be shown", "write plain text"
		}
		*c.text(run) = cell
	case c.count != nil:
		x, err := strconv.ParseFloat(cell, 64) // spreadsheets write 8.0
		if err != nil || x != math.Trunc(x) || x < float64(c.least) || x > maxCount {
			return "is no whole number from " + strconv.Itoa(c.least), "write digits only" + leave
		}
		*c.count(run) = Count{int(x), true}
	default:
		x, err := strconv.ParseFloat(cell, 64)
		if err != nil || !(x > 0) || math.IsInf(x, 0) {
			return "is no number above 0", "write a number without its unit" + leave
		}
		*c.amount(run) = Amount{x, true}
	}
	return "", ""
}
