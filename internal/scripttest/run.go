package scripttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Machine is what a script drives. Do takes one input line: at is the time since
// the script began. It returns what stands below the line.
type Machine interface {
	Do(at time.Duration, verb string, fields Fields) ([]string, error)
}

// Run runs every script testdata/*.txt, each as a test of its own on a new machine.
func Run(t *testing.T, rewrite bool, machine func() Machine) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := string(raw)
			got, err := play(want, machine())
			if err != nil {
				t.Fatalf("%s:%v", file, err)
			}
			if got == want {
				return
			}
			if !rewrite {
				t.Fatalf("%s: other than written (run with -rewrite and read the difference):\n%s", file, difference(want, got))
			}
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// play gives the script with what the machine does now.
func play(script string, m Machine) (string, error) {
	if !strings.HasPrefix(script, "# Danger: ") {
		return "", fmt.Errorf("1: a script opens with the danger it guards: # Danger: …")
	}
	var out strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(script, "\n"), "\n") {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := input(&out, line, m); err != nil {
			return "", fmt.Errorf("%d: %w", i+1, err)
		}
	}
	return out.String(), nil
}

func input(out *strings.Builder, line string, m Machine) error {
	words, err := split(line)
	if err != nil {
		return err
	}
	var times []time.Duration
	if words[0] == "config" {
		times = []time.Duration{0}
	} else {
		if times, err = moments(words[0]); err != nil {
			return err
		}
		words = words[1:]
	}
	if len(words) == 0 {
		return fmt.Errorf("nothing happens")
	}
	fields, err := parse(words[1:])
	if err != nil {
		return err
	}
	for _, at := range times {
		said, err := m.Do(at, words[0], fields)
		if err != nil {
			return err
		}
		for _, s := range said {
			if len(times) > 1 {
				s = at.String() + " " + s
			}
			out.WriteString("\t" + s + "\n")
		}
	}
	return nil
}

// moments reads "1s" or "1s..9s/1s".
func moments(word string) ([]time.Duration, error) {
	span, step, repeated := strings.Cut(word, "/")
	if !repeated {
		at, err := time.ParseDuration(word)
		return []time.Duration{at}, err
	}
	first, last, _ := strings.Cut(span, "..")
	from, err := time.ParseDuration(first)
	if err != nil {
		return nil, err
	}
	to, err := time.ParseDuration(last)
	if err != nil {
		return nil, err
	}
	every, err := time.ParseDuration(step)
	if err != nil || every <= 0 {
		return nil, fmt.Errorf("%s: not a step of time", step)
	}
	var out []time.Duration
	for at := from; at <= to; at += every {
		out = append(out, at)
	}
	return out, nil
}

// split cuts a line at spaces outside quotes.
func split(line string) ([]string, error) {
	var words []string
	word, quoted := "", false
	for _, r := range line {
		switch {
		case r == '"':
			quoted = !quoted
		case r == ' ' && !quoted:
			if word != "" {
				words = append(words, word)
			}
			word = ""
		default:
			word += string(r)
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if word != "" {
		words = append(words, word)
	}
	return words, nil
}

// difference shows the first lines that differ.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			show := func(lines []string) string { return strings.Join(lines[min(i, len(lines)):min(i+5, len(lines))], "\n") }
			return fmt.Sprintf("line %d\nwritten:\n%s\nnow:\n%s", i+1, show(w), show(g))
		}
	}
	return ""
}
