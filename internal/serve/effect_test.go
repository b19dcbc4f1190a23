package serve

import (
	"errors"
	"strings"
	"testing"
)

// A setting that changes nothing is said, with the place where the user wrote it.
func TestSettingsWithoutEffect(t *testing.T) {
	run := ownRun(t, "model:\n  bias_rate: 0.01\nislands:\n  - name: a\n  - name: b\n    evaluate: true\n")
	said := strings.Join(withoutEffect(run), "\n")
	for _, want := range []string{"run.yaml:2: model.bias_rate is 0.01", "run.yaml:6: islands.1.evaluate"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
	quiet := ownRun(t, "model: {bias_rate: 0.01, router_bias: true}\nislands: [{}]")
	own := ownRun(t, "model: {from: seed}\ndata: {own: true}\nislands: [{engine: external, seed: true, evaluate: true}]")
	if said := append(withoutEffect(quiet), withoutEffect(own)...); len(said) > 0 {
		t.Errorf("%q", said)
	}
}

// Two attempts to write differ in the names of their temporary files, and are one error.
func TestSteadyErrors(t *testing.T) {
	a, b := errors.New("put x: write /r/.tmp-x-1f: no space left"), errors.New("put x: write /r/.tmp-x-2e: no space left")
	if steady(a) != steady(b) || steady(a) == steady(errors.New("put x: write /r/.tmp-x-2e: quota exceeded")) {
		t.Errorf("%q, %q", steady(a), steady(b))
	}
}
