package ledger

import (
	"encoding/json"
	"math"
	"testing"
)

func TestValueSaysWhatItKnows(t *testing.T) {
	for _, c := range []struct {
		v          Value
		text, json string
	}{
		{Value{}, "-", "null"},
		{Known(0), "0.00", "0"},
		{Known(2.5), "2.50", "2.5"},
		{Known(math.NaN()), "non-finite", `"non-finite"`},
		{Known(math.Inf(-1)), "non-finite", `"non-finite"`},
	} {
		if got := c.v.Text(2); got != c.text {
			t.Errorf("text %q, want %q", got, c.text)
		}
		data, err := json.Marshal(c.v)
		if err != nil || string(data) != c.json {
			t.Errorf("JSON %s, %v, want %s", data, err, c.json)
		}
		var back Value
		if err := json.Unmarshal(data, &back); err != nil || back.Text(2) != c.text {
			t.Errorf("%s reads back as %q, %v", data, back.Text(2), err)
		}
	}
	var v Value
	if err := json.Unmarshal([]byte(`"many"`), &v); err == nil || v != (Value{}) {
		t.Errorf("a word was read as the value %q, %v", v.Text(2), err)
	}
}

// FuzzValue: what is read as a value comes out as the same one, and what is not
// leaves unknown what was unknown.
func FuzzValue(f *testing.F) {
	for _, seed := range []string{"null", "0", "-0", "2.5", "1e308", "1e309", `"non-finite"`, `"many"`, "[1]", " 7 ", `"1"`, "true", "5e-324", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v, back Value
		if err := json.Unmarshal(data, &v); err != nil {
			if v != (Value{}) {
				t.Fatalf("%q is refused and leaves %q", data, v.Text(2))
			}
			return
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &back); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if math.Float64bits(back.number) != math.Float64bits(v.number) || back.known != v.known {
			t.Fatalf("%q reads %v, written again %v", data, v, back)
		}
	})
}

func TestAmount(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", 7: "7", 999: "999", 999.6: "1.00k", 1000: "1.00k", 12_345: "12.3k", 400_000: "400k", 999_900: "1.00M",
		3_050_000: "3.05M", 1.2e9: "1.20B", 5e12: "5.00T", 5e15: "5000T", 0.4: "0",
	} {
		if got := Amount(n); got != want {
			t.Errorf("%v: %q, want %q", n, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 9994: "9.99 kB", 9996: "10.0 kB", 99_960: "100 kB",
		999_499: "999 kB", 999_500: "1.00 MB", 16_801_974_272: "16.8 GB", 1 << 62: "4.61 EB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
