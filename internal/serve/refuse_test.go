package serve

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/wire"
)

func ownRun(t *testing.T, text string) runfile.Run {
	t.Helper()
	run, err := runfile.Parse("run.yaml", []byte(text))
	if err == nil {
		run, err = run.Resolve()
	}
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// Who says hello is refused in words where it can never take part.
func TestHelloRefusals(t *testing.T) {
	own := ownRun(t, "model:\n  tensors: [{name: w, shape: [2, 3]}]\ndata: {own: true}\nislands: [{engine: external}]")
	ours := ownRun(t, "islands: [{}]")
	for _, c := range []struct {
		run   runfile.Run
		hello *wire.Hello
		says  string
	}{
		{own, &wire.Hello{KernelSet: "k"}, "only a trainer of its owner's"},
		{own, &wire.Hello{Engine: "external", OwnData: true}, ""},
		{ours, &wire.Hello{KernelSet: "k"}, ""},
		{ours, &wire.Hello{KernelSet: "other"}, `kernel set "other", this run computes with "k"`},
		{ours, &wire.Hello{Engine: "torch"}, ""},
		{ours, &wire.Hello{Engine: "external", OwnData: true}, "data.own: true"},
	} {
		if got := refusal(c.run, "k", c.hello); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%v: %q, want %q", c.hello, got, c.says)
		}
	}
}

// Another run's model digest is refused with both, whoever computed it.
func TestAnotherModelsDigest(t *testing.T) {
	run := ownRun(t, "model:\n  tensors: [{name: w, shape: [2, 3]}]\ndata: {own: true}\nislands: [{engine: external}]")
	same, other := fragment.TableDigest(run.Table()), wire.TableDigest([]wire.TensorShape{{Name: "w", Shape: []int{3, 2}}})
	if why := otherDigest(run, &wire.Hello{TableDigest: same}) + otherDigest(run, &wire.Hello{}); why != "" {
		t.Error(why)
	}
	if why := otherDigest(run, &wire.Hello{TableDigest: other}); !strings.Contains(why, "another model") || bytes.Equal(same, other) {
		t.Errorf("%q", why)
	}
}
