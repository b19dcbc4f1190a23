package runfile

import "testing"

func TestLayoutInWords(t *testing.T) {
	for want, l := range map[string]Layout{
		"native":                                Island{Pace: 1, Numeric: "fp32", Precision: "fp32"}.Layout(),
		"native, pace 0.5":                      Island{Pace: 0.5}.Layout(),
		"native, emulates bf16":                 Island{Numeric: "bf16", Pace: 1}.Layout(),
		"torch on npu, 8 ranks, bf16":           Island{Engine: Torch, Device: "npu", Ranks: 8, Precision: "bf16", Pace: 1}.Layout(),
		"torch on cpu":                          Island{Engine: Torch, Device: "cpu", Ranks: 1, Precision: "fp32"}.Layout(),
		"external":                              Island{Engine: External}.Layout(),
		"external on cuda, 16 ranks on 2 hosts": {Engine: External, Device: "cuda", Ranks: 16, Hosts: 2},
	} {
		if got := l.String(); got != want {
			t.Errorf("%+v is %q, want %q", l, got, want)
		}
	}
}
