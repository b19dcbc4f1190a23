package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/chip"
)

// runChips runs the verb and gives what it wrote.
func runChips(t *testing.T, args ...string) string {
	t.Helper()
	return wrote(t, append([]string{"chips"}, args...)...)
}

// The list and an entry are what they were; both fit a terminal.
func TestChipsLookAsTheyDid(t *testing.T) {
	for file, args := range map[string][]string{"chips.golden": nil, "chips_show.golden": {"show", "ascend-910b2"}, "chips_measured.golden": {"show", "mi300x"}} {
		golden(t, file, runChips(t, args...))
	}
}

func TestChipsFitATerminal(t *testing.T) {
	outputs := []string{runChips(t)}
	for _, name := range chip.Builtin().Names() {
		outputs = append(outputs, runChips(t, "show", name))
	}
	for _, out := range outputs {
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}

// S6: what is unknown of a chip is shown as "?", and is no number in JSON.
func TestUnknownOfAChipIsShownAsUnknown(t *testing.T) {
	var all struct {
		Chips []map[string]json.RawMessage `json:"chips"`
	}
	if err := json.Unmarshal([]byte(runChips(t, "--json")), &all); err != nil {
		t.Fatal(err)
	}
	for i, c := range chip.Builtin().Chips() {
		text := runChips(t, "show", c.Name)
		for _, info := range chip.Fields() {
			f := c.Of(info.Field)
			if f.Known() {
				continue
			}
			raw := string(all.Chips[i][string(info.Field)])
			if strings.Contains(raw, `"low"`) || !strings.Contains(raw, "null") && !strings.Contains(raw, `"unknown":true`) && raw != "[]" {
				t.Errorf("%s.%s reads %s", c.Name, info.Field, raw)
			}
			if info.Field != chip.Quirk && !strings.Contains(text, "\n"+pad(string(info.Field), valueColumn)+unknown) {
				t.Errorf("%s.%s is not shown as unknown:\n%s", c.Name, info.Field, text)
			}
		}
	}
}

// What --csv writes is a catalogue file that --catalogue takes.
func TestChipsCSVComesBack(t *testing.T) {
	file := t.TempDir() + "/mine.csv"
	text := strings.Replace(runChips(t, "show", "ascend-910b2", "--csv"), "ascend-910b2,price,unknown,,,,,", "ascend-910b2,price,6,CNY/h,A,our contract,2026-11-29,", 1)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if list := runChips(t, "--catalogue", file); !strings.Contains(list, "  6 CNY ") {
		t.Errorf("the price is not in the list:\n%s", list)
	}
	c, err := chip.Parse("all", []byte(runChips(t, "--csv")))
	if err != nil || !slices.Equal(c.Names(), chip.Builtin().Names()) {
		t.Errorf("%v %v", c.Names(), err)
	}
}

func TestChipNamesComplete(t *testing.T) {
	var out bytes.Buffer
	Main(Env{Args: []string{"mistura", "__complete", "chips", "show", ""}, Stdout: &out, Stderr: new(bytes.Buffer)})
	if got := out.String(); !strings.Contains(got, "ascend-910b2\n") || !strings.Contains(got, "h800-80g-sxm\n") {
		t.Errorf("completes to\n%s", got)
	}
}
