package pytorch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// heard runs a program in Python's place and gives the lines that were handed on.
func heard(ctx context.Context, t *testing.T, script string, said func(line []byte) error) ([]string, error) {
	t.Helper()
	var lines []string
	err := Timing{Where: "--engine torch,", Ranks: 1, Patience: time.Minute}.run(ctx, program(t, script), "/nowhere", []byte("{}"), func(line []byte) error {
		lines = append(lines, string(line))
		return said(line)
	})
	return lines, err
}

func quietly([]byte) error { return nil }

func TestTimingHandsLinesOn(t *testing.T) {
	lines, err := heard(t.Context(), t, `echo 'a plug-in says hello'; echo '{"at": 0}'; echo '{"key": 0, "seconds": [1]}'`, quietly)
	if want := `{"at": 0} {"key": 0, "seconds": [1]}`; err != nil || strings.Join(lines, " ") != want {
		t.Errorf("%v: %q", err, lines)
	}
}

func TestTimingSaysWhatIsWrong(t *testing.T) {
	for script, want := range map[string]string{
		`echo '{"python": "3.9.1", "missing": "No module named torch"}'`: "has no PyTorch: No module named torch; install it by: ",
		`echo '{"error": {"where": "device", "value": "npu", "problem": "torch_npu is not installed", "next": "install CANN"}}'; exit 2`:// of the package
		`--engine torch, device "npu": torch_npu is not installed; install CANN`,
		`echo oh dear >&2; exit 3`: "does not run the Python package (oh dear); name another Python",
		`exit 3`:                   "does not run the Python package (exit status 3); name another Python",
	} {
		_, err := heard(t.Context(), t, script, quietly)
		if in := (*fault.Input)(nil); !errors.As(err, &in) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", script, err, want)
		}
	}
	_, err := heard(t.Context(), t, `echo '{"at": 0}'; echo first >&2; echo out of luck >&2; exit 1`, quietly)
	if in := (*fault.Input)(nil); err == nil || errors.As(err, &in) || !strings.HasSuffix(err.Error(), "python3: out of luck") {
		t.Errorf("a process that breaks off: %v", err)
	}
}

// What hears ends the process by refusing a line, and who started it by its context: a
// process that goes on measuring for nobody would disturb whoever is next.
func TestTimingIsEnded(t *testing.T) {
	refusal := errors.New("refused")
	if _, err := heard(t.Context(), t, `echo '{"at": 0}'; exec sleep 1000`, func([]byte) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("ended with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := heard(ctx, t, `echo '{"at": 0}'; exec sleep 1000`, func([]byte) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
