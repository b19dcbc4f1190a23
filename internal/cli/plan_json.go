package cli

import (
	"cmp"
	"encoding/json"
	"io"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/search"
)

// planJSON is what --json writes.
type planJSON struct {
	Predicted  bool           `json:"predicted"` // always: nothing in it was measured
	Example    bool           `json:"example"`
	RangeHolds float64        `json:"range_holds"` // share of published runs that lay within the ranges
	Question   questionJSON   `json:"question"`
	Catalogue  string         `json:"catalogue_date"`
	Constants  string         `json:"constants_date"`
	Answer     search.Answer  `json:"answer"`
	Evidence   []evidenceJSON `json:"evidence"`
	Reference  *referenceJSON `json:"reference"`
	Taken      []string       `json:"taken_for_granted"`
	RunFile    *string        `json:"run_file"`
}

type questionJSON struct {
	Model     string   `json:"model"`
	All       int64    `json:"parameters"`
	Active    int64    `json:"active_parameters"`
	Tokens    int64    `json:"tokens"`
	Sequence  int      `json:"sequence_tokens"`
	Batch     int      `json:"batch_sequences"`
	Format    string   `json:"format"`
	Fleet     string   `json:"fleet"`
	Objective string   `json:"objective"`
	Deadline  *float64 `json:"deadline_seconds"`
	Budget    *float64 `json:"budget"`
	Currency  string   `json:"currency"`
	Start     *string  `json:"start"`
	Unread    []string `json:"fields_not_read"` // of the model's config.json
}

type evidenceJSON struct {
	Pool string `json:"pool"`
	Chip string `json:"chip"`
	evidence
}

type referenceJSON struct {
	Fleet     string      `json:"fleet"`
	Plan      search.Plan `json:"plan"`
	Saving    spanJSON    `json:"saving"`     // of the reference's cost
	Time      spanJSON    `json:"time_ratio"` // of this plan over the reference
	MFURatio  float64     `json:"mfu_ratio"`
	BreakEven float64     `json:"break_even_mfu_ratio"`
}

type spanJSON struct {
	Low  float64 `json:"low"`
	Mid  float64 `json:"mid"`
	High float64 `json:"high"`
}

func (p *planned) printJSON(out io.Writer) error {
	doc := planJSON{
		Predicted: true, Example: p.example, RangeHolds: 0.8, Question: p.questionJSON(), Catalogue: p.catalogue.Date, Constants: p.constants,
		Answer: p.answer, Taken: append([]string{}, p.taken...), RunFile: optional(p.out),
	}
	for _, j := range p.answer.Pools {
		doc.Evidence = append(doc.Evidence, evidenceJSON{j.Pool, j.Chip, evidenceOf(j.Chip)})
	}
	if r := p.reference; r != nil {
		c := r.comparison
		doc.Reference = &referenceJSON{r.fleet.File, r.best, spanJSON(c.Saving), spanJSON(c.Time), c.MFURatio, c.BreakEven}
	}
	return printJSON(out, finite(reflect.ValueOf(doc)))
}

func (p *planned) questionJSON() questionJSON {
	q, d := p.question, p.model.decoder
	total, active := d.Parameters().Total(), d.Parameters().Active()
	out := questionJSON{
		Model: d.Name, All: total, Active: active, Tokens: q.Tokens, Sequence: q.Task.Sequence, Batch: q.Task.Batch, Format: q.Task.Format,
		Fleet: q.Fleet.File, Objective: string(q.Objective), Deadline: optional(q.Deadline), Budget: optional(q.Budget), Currency: q.Fleet.Currency, Unread: p.model.unread,
	}
	if !q.Start.IsZero() {
		out.Start = optional(q.Start.Format(time.DateOnly))
	}
	return out
}

// layoutJSON is a layout with the degrees that are taken for granted written out.
type layoutJSON struct {
	TP         int    `json:"tp"`
	PP         int    `json:"pp"`
	VPP        int    `json:"vpp"`
	EP         int    `json:"ep"`
	ETP        int    `json:"etp"`
	CP         int    `json:"cp"`
	DP         int    `json:"dp"`
	MicroBatch int    `json:"micro_batch_sequences"`
	ZeRO       int    `json:"zero"`
	Recompute  string `json:"recompute"`
	Stages     []int  `json:"stage_layers"` // none: even
	Exposed    bool   `json:"exposed_gradients"`
	KVCopies   bool   `json:"kv_copies"`
	Parallel   bool   `json:"sequence_parallel"`
}

func layoutInJSON(l plan.Layout) layoutJSON {
	return layoutJSON{l.TP, l.PP, max(1, l.VPP), l.EP, l.ETP, l.CP, l.DP, l.MicroBatch, l.ZeRO, cmp.Or(string(l.Recompute), "none"), l.Stages, l.Exposed, l.KVCopies, l.TP > 1 && !l.Whole}
}

// optional is nil for what nobody said.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// finite is a value as JSON can hold it: numbers that are not known are null, and so is
// no list.
func finite(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Float64:
		if x := v.Float(); !math.IsNaN(x) && !math.IsInf(x, 0) {
			return x
		}
		return nil
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return finite(v.Elem())
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = finite(v.Index(i))
		}
		return out
	case reflect.Struct:
		switch some := v.Interface().(type) {
		case plan.Layout:
			v = reflect.ValueOf(layoutInJSON(some))
		case search.Line:
			if some.Unknown != "" {
				some.Hourly, some.Amount = math.NaN(), math.NaN()
			}
			v = reflect.ValueOf(some)
		case plan.Line:
			if some.Unknown != "" && some.Mid == 0 {
				some.Mid = math.NaN()
			}
			v = reflect.ValueOf(some)
		case search.Change:
			if some.Missing != "" {
				some.Cost, some.Seconds = math.NaN(), math.NaN()
			}
			v = reflect.ValueOf(some)
		}
		out := object{}
		out.add(v)
		return out
	}
	return v.Interface()
}

// object is a JSON object whose keys stay in the order of the struct.
type object struct {
	keys   []string
	values []any
}

func (o *object) add(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			o.add(v.Field(i))
		case key != "" && key != "-":
			o.keys, o.values = append(o.keys, key), append(o.values, finite(v.Field(i)))
		}
	}
}

// MarshalJSON writes the keys in their order.
func (o object) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, key := range o.keys {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(o.values[i])
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	return append(out, '}'), nil
}
