package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mistura-project/mistura/internal/runfile"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// The verbs and flags are a promise: a change here needs a reason in the change.
func TestFlagSetIsFrozen(t *testing.T) {
	var got bytes.Buffer
	verbs(newRoot(&Env{}), func(cmd *cobra.Command) {
		fmt.Fprintln(&got, cmd.UseLine())
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			fmt.Fprintf(&got, "\t--%s %s, default %q\n", f.Name, f.Value.Type(), f.DefValue)
		})
	})
	const file = "testdata/flags.golden"
	if *rewrite {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("differs from %s:\n%s", file, &got)
	}
}

func verbs(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		verbs(c, visit)
	}
}

// What the flags are for is read on a screen of 80 columns, with no word cut.
func TestFlagsFitAScreen(t *testing.T) {
	verbs(newRoot(&Env{}), func(cmd *cobra.Command) {
		_, flags, _ := strings.Cut(cmd.UsageString(), "\nFlags:\n")
		for line := range strings.Lines(flags) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%s: %d columns: %s", cmd.CommandPath(), n, line)
			}
		}
	})
}

func TestEveryVerbHasAnExample(t *testing.T) {
	root := newRoot(&Env{})
	strictCompletion(root)
	verbs(root, func(cmd *cobra.Command) {
		if cmd.Example == "" || cmd.Short == "" || cmd.Long == "" {
			t.Errorf("%s: no example, or no help", cmd.CommandPath())
		}
	})
}

// Every flag of train has a key in the run file and a row on the page, but for
// those that are no part of the run.
func TestFlagsOfTrainStandOnThePage(t *testing.T) {
	data, err := os.ReadFile("../../docs/formats/run.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(data), "## Flags")
	keys := append(runfile.Keys(), "islands")
	newTrain(&Env{}).Flags().VisitAll(func(f *pflag.Flag) {
		row := ""
		for line := range strings.Lines(table) {
			if strings.HasPrefix(line, "| `--"+f.Name+" ") {
				row = line
			}
		}
		cells := strings.Split(row, "|")
		switch {
		case row == "" && slices.Contains([]string{"json", "resume", "listen", "token-expires", "token-uses", "token-name"}, f.Name):
		case row == "":
			t.Errorf("--%s is not on the page", f.Name)
		case !slices.Contains(keys, strings.Split(cells[2], "`")[1]):
			t.Errorf("--%s: %s is no key", f.Name, cells[2])
		}
	})
}

// brief is what the flag may change of islands.
func brief(islands []runfile.Island) string {
	var out []string
	for _, i := range islands {
		out = append(out, fmt.Sprintf("{%s %v %d %s}", i.Name, i.Pace, i.Threads, i.Numeric))
	}
	return fmt.Sprint(out)
}

func TestIslandsFlag(t *testing.T) {
	two := []runfile.Island{{Name: "fast", Pace: 1, Numeric: "fp32"}, {Name: "slow", Pace: 0.5, Threads: 1, Numeric: "bf16"}}
	for text, want := range map[string]string{
		"1":          "[{fast 1 0 fp32}]",
		"2":          "[{fast 1 0 fp32} {slow 0.5 1 bf16}]",
		"4":          "[{fast 1 0 fp32} {slow 0.5 1 bf16} {island-3 1 0 } {island-4 1 0 }]",
		"0.5":        "[{fast 0.5 0 fp32}]",
		"1,1":        "[{fast 1 0 fp32} {slow 1 1 bf16}]",
		"1,0.5, 0.2": "[{fast 1 0 fp32} {slow 0.5 1 bf16} {island-3 0.2 0 }]",
	} {
		var f islandsFlag
		if err := f.Set(text); err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := brief(f.apply(two)); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	var f islandsFlag
	for _, text := range []string{"", "0", "-1", "1025", "1.5", "1,0", "1,,1", "NaN", "Inf", "a", strings.Repeat("1,", 1024) + "1"} {
		if err := f.Set(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestIslandsFlagFindsFreeNames(t *testing.T) {
	f := islandsFlag{count: 3}
	got := f.apply([]runfile.Island{{Name: "island-2", Pace: 1}})
	if brief(got) != "[{island-2 1 0 } {island-3 1 0 } {island-4 1 0 }]" {
		t.Errorf("got %v", got)
	}
}
