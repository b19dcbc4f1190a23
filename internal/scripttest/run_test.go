package scripttest

import (
	"strings"
	"testing"
	"time"
)

// echo says what it is told.
type echo struct{}

func (echo) Do(at time.Duration, verb string, fields Fields) ([]string, error) {
	var v struct {
		Name string
		Wait time.Duration
		N    []int64
	}
	if err := fields.Fill(&v); err != nil {
		return nil, err
	}
	return []string{verb + " " + Show(v)}, nil
}

func TestPlay(t *testing.T) {
	script := "# Danger: none\nconfig name=a\n1s go name=\"b c\" wait=2s n=1,2\n\told\n1s..3s/1s go\n"
	want := "# Danger: none\nconfig name=a\n\tconfig value name=a\n1s go name=\"b c\" wait=2s n=1,2\n\tgo value name=\"b c\" wait=2s n=[1 2]\n" +
		"1s..3s/1s go\n\t1s go value\n\t2s go value\n\t3s go value\n"
	got, err := play(script, echo{})
	if err != nil || got != want {
		t.Fatalf("%v\n%s\nwant\n%s", err, got, want)
	}
	if again, err := play(got, echo{}); err != nil || again != got {
		t.Fatalf("a script that was rewritten is not the same again: %v\n%s", err, again)
	}
}

func TestPlayRefuses(t *testing.T) {
	for script, want := range map[string]string{
		"1s go\n":                         "opens with the danger",
		"# Danger: x\n1s\n":               "nothing happens",
		"# Danger: x\nsoon go\n":          "invalid duration",
		"# Danger: x\n1s go color=red\n":  "no field color",
		"# Danger: x\n1s go loud\n":       "no key=value",
		"# Danger: x\n1s go name=\"a\n":   "not closed",
		"# Danger: x\n1s go n=x\n":        "invalid syntax",
		"# Danger: x\n1s..2s/0s go\n":     "not a step",
		"# Danger: x\n1s..later/1s go\n":  "invalid duration",
		"# Danger: x\nthen..2s/1s go\n":   "invalid duration",
		"# Danger: x\n1s go wait=a\n":     "invalid duration",
		"# Danger: x\n\n# fine\n2s go\n1": "missing unit",
	} {
		if _, err := play(script, echo{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", script, err, want)
		}
	}
}
