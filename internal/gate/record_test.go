package gate

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

func whole() Record {
	r := recordOf(9, FP32, 5.25, gradients(9))
	r.Choices = [][]int32{make([]int32, 2*r.Probe.Inputs()), {}}
	r.Own = map[string]Own{BF16: *ownOf(6)}
	return r
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	r := whole()
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(data)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%v: %+v", err, got)
	}
}

func TestRecordsThatContradictThemselvesAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Record){
		"format 2":                        func(r *Record) { r.Format = 2 },
		"the loss is NaN":                 func(r *Record) { r.Loss = math.NaN() },
		`weights "others"`:                func(r *Record) { r.Weights = "others" },
		"0 tensors":                       func(r *Record) { r.Tensors = nil },
		`tensor "tensor.b" is not finite`: func(r *Record) { r.Tensors[1].Along[3] = math.Inf(1) },
		"is of ranks 3 to 1":              func(r *Record) { r.Tensors[0].Ranks = &Span{3, 1} },
		"tokens in 5 rows":                func(r *Record) { r.Probe.Rows = 5 },
		"token 3 is -1":                   func(r *Record) { r.Probe.Tokens[3] = -1 },
		"choice 0 in layer 0 is -1":       func(r *Record) { r.Choices[0][0] = -1 },
		"1 choices in layer 1":            func(r *Record) { r.Choices[1] = []int32{1} },
		"of 1 tensors, there are 6":       func(r *Record) { r.Own[FP16] = Own{Gradients: []float64{1}} },
		`own error 0 in "bf16" is -1`:     func(r *Record) { r.Own[BF16].Gradients[0] = -1 },
	} {
		r := whole()
		change(&r)
		if _, err := r.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		data, err := json.Marshal(r)
		if err != nil {
			continue // what JSON cannot hold cannot come in either
		}
		if _, err := Decode(data); err == nil {
			t.Errorf("%s: was read", want)
		}
	}
}

func TestRecordsOfAnotherFormatAreRefusedByBothNumbers(t *testing.T) {
	if _, err := Decode([]byte(`{"gate_record": 7, "colour": "red"}`)); err == nil || !strings.Contains(err.Error(), "format 7, this program reads 1") {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	data, err := whole().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"gate_record":1,"probe":{"rows":1,"tokens":[1,2]},"weights":"sent","tensors":[{"name":"a"}]}`))
	f.Add([]byte(`{"gate_record":1,"probe":{"rows":0}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if _, err := Judge(r, r, nil); err != nil {
			t.Fatalf("a record is not an answer to itself: %v", err)
		}
	})
}
