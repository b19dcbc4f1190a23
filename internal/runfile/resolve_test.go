package runfile

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/sheet"
)

func TestResolveFillsEverything(t *testing.T) {
	r, err := Default().Resolve()
	if err != nil {
		t.Fatal(err)
	}
	if text := string(r.Marshal()); strings.Contains(text, "auto") {
		t.Errorf("auto is left:\n%s", text)
	}
	if r.Name != "ling-nano" || r.Train.WarmupTokens != r.Tokens/20 || r.Train.DecayTokens != r.Tokens/5 {
		t.Errorf("name %q, warm-up %v, decay %v", r.Name, r.Train.WarmupTokens, r.Train.DecayTokens)
	}
}

// D5: one island is the plain run.
func TestOuterStepDependsOnTheNumberOfIslands(t *testing.T) {
	for _, c := range []struct {
		islands        int
		rate, momentum float64
		strict         bool
	}{{1, 1, 0, true}, {2, 0.7, 0.5, false}, {3, 0.7, 0.5, false}} {
		r := Default()
		r.Islands = make([]Island, c.islands)
		for i := range r.Islands {
			r.Islands[i].Pace = 1
		}
		r, err := r.Resolve()
		if err != nil {
			t.Fatal(err)
		}
		x := r.Exchange
		if *x.OuterRate != c.rate || *x.OuterMomentum != c.momentum || *x.Strict != c.strict {
			t.Errorf("%d islands: rate %v, momentum %v, strict %v", c.islands, *x.OuterRate, *x.OuterMomentum, *x.Strict)
		}
	}
}

func TestResolveKeepsWhatIsSaid(t *testing.T) {
	r, err := Parse("run.yaml", []byte("name: mine\nexchange:\n  outer_rate: 0.9\n  outer_momentum: 0\n  strict: true\ntrain:\n  warmup_tokens: 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r, err = r.Resolve(); err != nil {
		t.Fatal(err)
	}
	if r.Name != "mine" || *r.Exchange.OuterRate != 0.9 || *r.Exchange.OuterMomentum != 0 || !*r.Exchange.Strict || r.Train.WarmupTokens != 0 {
		t.Errorf("changed: %s", r.Marshal())
	}
}

func TestResolveLeavesItsArgumentAlone(t *testing.T) {
	r := Default()
	r.Islands = []Island{{Pace: 1}}
	if _, err := r.Resolve(); err != nil {
		t.Fatal(err)
	}
	if r.Islands[0].Name != "" {
		t.Error("the caller's islands were named")
	}
}

func TestFaultOfAFlagNamesTheFlag(t *testing.T) {
	r := Default().FromFlag("tokens", "--tokens")
	r.Tokens = 0
	_, err := r.Resolve()
	want := `--tokens "0": must be from 1 to 1000T; the default is 1M`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestSamplesAreWholeSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Default()
		r.Tokens = Count(rapid.Int64Range(1, 1e9).Draw(t, "tokens"))
		r.Train.SequenceTokens = rapid.IntRange(1, 300).Draw(t, "sequence")
		r.Train.BatchSequences = rapid.IntRange(1, 30).Draw(t, "batch")
		r.Train.Accumulate = rapid.IntRange(1, 4).Draw(t, "accumulate")
		n := r.TotalSamples()
		tokens := n * int64(r.Train.SequenceTokens)
		if n%r.StepSamples() != 0 || tokens < int64(r.Tokens) || tokens-r.StepTokens() >= int64(r.Tokens) {
			t.Fatalf("%d samples for %v tokens", n, r.Tokens)
		}
	})
}

// Every run, resolved or not, parses back to itself.
func TestMarshalParsesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Default()
		draw(t, reflect.ValueOf(&r).Elem())
		r.Model.Preset = "ling-tiny"
		text := r.Marshal()
		again, err := Parse("run.yaml", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		again.origin = origin{}
		if !reflect.DeepEqual(again, r) {
			t.Fatalf("changed:\n%s\n%s", text, again.Marshal())
		}
	})
}

// draw fills every field that has a key with any value that its type holds.
func draw(t *rapid.T, v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case *Count:
		*p = Count(rapid.Int64Range(-1, 1<<62).Draw(t, "count"))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		fields := sheet.Fields(v)
		for _, key := range slices.Sorted(maps.Keys(fields)) {
			draw(t, fields[key])
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 3).Draw(t, "length")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			draw(t, v.Index(i))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "nil") {
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		draw(t, v.Elem())
	case reflect.String:
		v.SetString(rapid.StringMatching(`[ -~éß語\n\t\x00\x{2028}]{0,12}`).Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int:
		v.SetInt(int64(rapid.Int().Draw(t, "int")))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "uint"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "float"))
	default:
		t.Fatalf("field of kind %v", v.Kind())
	}
}

// The danger: a number such as 1e-06, which some readers of YAML take for text.
func TestJSONHasTheSameKeysAndValues(t *testing.T) {
	r, err := Default().Resolve()
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Tokens int64
		Model  struct {
			Router  string
			NormEps float64 `json:"norm_eps"`
			QKNorm  *bool   `json:"qk_norm"`
		}
		Exchange struct {
			OuterRate float64 `json:"outer_rate"`
		}
		Islands []struct{ Name, Engine string }
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got.Tokens != int64(r.Tokens) || got.Model.Router != r.Model.Router || got.Model.NormEps != r.Model.NormEps || got.Model.QKNorm == nil ||
		got.Exchange.OuterRate != *r.Exchange.OuterRate || len(got.Islands) != 2 || got.Islands[1].Name != r.Islands[1].Name {
		t.Errorf("%+v\n%s", got, text)
	}
}

// TestDefaultEngine: what no engine of ours can train is an external trainer's.
func TestDefaultEngine(t *testing.T) {
	for text, want := range map[string]string{
		"islands: [{name: a}]":                                                      Native,
		"data: {own: true}\nislands: [{name: a}]":                                   External,
		"model: {from: seed}\nislands: [{name: a, seed: true}]":                     External,
		"model: {from: w.safetensors}\nislands: [{name: a}]":                        External,
		"data: {own: true}\nislands: [{name: a, engine: external, evaluate: true}]": External,
	} {
		r, err := Parse("run.yaml", []byte(text))
		if err == nil {
			r, err = r.Resolve()
		}
		if err != nil || r.Islands[0].Engine != want {
			t.Errorf("%q: %+v, %v", text, r.Islands, err)
		}
	}
}

// TestC4LimitsInOrder: an outer watchdog that ends before the inner one kills a process
// before recovery can act, and finding that out costs days.
func TestC4LimitsInOrder(t *testing.T) {
	for name, c := range map[string]struct{ limits, want string }{
		"in order":         {"heartbeat_seconds: 120\n  stall_seconds: 200\n  first_step_seconds: 300", ""},
		"equal":            {"heartbeat_seconds: 9\n  stall_seconds: 9\n  first_step_seconds: 9", ""},
		"stall first":      {"heartbeat_seconds: 300\n  stall_seconds: 200", `run.yaml:3: limits.stall_seconds "200": must be at least limits.heartbeat_seconds, which is 300; raise the one or lower the other`},
		"first step first": {"stall_seconds: 600", `run.yaml: limits.first_step_seconds "300": must be at least limits.stall_seconds, which is 600; raise the one or lower the other`},
	} {
		r, err := Parse("run.yaml", []byte("limits:\n  "+c.limits+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if _, err := r.Resolve(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
