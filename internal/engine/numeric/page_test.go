package numeric

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// docs/engine.md has a row for every format, accumulation model and profile, made of what
// the code says of it.
func TestPageHasEveryDefinition(t *testing.T) {
	data, err := os.ReadFile("../../../docs/engine.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, f := range Formats() {
		overflow := "infinity"
		if f.Saturate {
			overflow = fmt.Sprintf("%g", f.Max)
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %d | %d | %d | %.5g | 2^%d | 2^%d | %s |", f.Name, f.Bits(), f.Exponent, f.Mantissa, f.Max,
			f.MinExponent(), f.MinExponent()-f.Mantissa, overflow))
	}
	for _, m := range Accumulations() {
		rows = append(rows, fmt.Sprintf("| `%s` | %d | %s | %s |", m.Name, m.Group, kinds[m.Kind], m.Source))
	}
	for all := Profiles(); len(all) > 0; { // profiles that only differ in their name share a row
		first, names := all[0], ""
		for len(all) > 0 && all[0].Description == first.Description {
			names, all = names+", `"+all[0].Name+"`", all[1:]
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |", names[2:], first.Description, dash(first.Source), dash(first.Unknown)))
	}
	for _, row := range rows {
		if !strings.Contains(string(data), row+"\n") {
			t.Errorf("engine.md has no row\n%s", row)
		}
	}
}

// kinds are the kinds of accumulation in words.
var kinds = map[Kind]string{Aligned: "aligned", AlignedTwice: "aligned twice", Pairwise: "pairs"}

func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}
