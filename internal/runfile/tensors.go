package runfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// line is a tensor as an entry of a list, on one line.
func (t Tensor) line() string {
	shape := make([]string, len(t.Shape))
	for i, n := range t.Shape {
		shape[i] = strconv.Itoa(n)
	}
	return fmt.Sprintf("{name: %s, shape: [%s], state: %v}", quote(t.Name), strings.Join(shape, ", "), t.State)
}

// A model may have a hundred thousand tensors, for which the YAML library takes seconds and
// gigabytes. Where they stand as Marshal writes them, all but the first are read here.

// manyTensors is from how many on. Of fewer every one keeps its line for messages.
const manyTensors = 256

// tensorLine is what Marshal writes; the name is plain or quoted.
var tensorLine = regexp.MustCompile(`^    - \{name: (.+), shape: \[([0-9, ]*)\], state: (true|false)\}$`)

// listEnds is the end of a file, a key of the model section, or another section: anything
// else may belong to the list.
var listEnds = regexp.MustCompile(`^(?:$|(?:  )?[a-z])`)

// cutTensors takes a long list of tensors out of a run file but for its first entry, and
// gives them all. A file that is written in any other way comes back as it is.
func cutTensors(data []byte) (rest []byte, tensors []Tensor) {
	const list = "\n  tensors:\n"
	at := bytes.Index(data, []byte(list))
	if at < 0 || !inModel(data[:at]) {
		return data, nil
	}
	from := at + len(list)
	first, to := 0, from // end of the first entry, and of the list
	for to < len(data) {
		end := bytes.IndexByte(data[to:], '\n')
		if end < 0 {
			return data, nil
		}
		t, ok := readTensor(string(data[to : to+end]))
		if !ok {
			break
		}
		tensors = append(tensors, t)
		if to += end + 1; first == 0 {
			first = to
		}
	}
	if len(tensors) < manyTensors || !listEnds.Match(data[to:]) {
		return data, nil
	}
	rest = append(rest, data[:first]...)
	rest = append(rest, bytes.Repeat([]byte{'\n'}, len(tensors)-1)...) // lines below keep their numbers
	return append(rest, data[to:]...), tensors
}

// inModel: the last line without indent is that of the model section.
func inModel(before []byte) bool {
	lines := strings.Split(string(before), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if l := lines[i]; l != "" && l[0] != ' ' && l[0] != '#' {
			return strings.TrimRight(l, " ") == "model:"
		}
	}
	return false
}

// readTensor reads one entry.
func readTensor(line string) (t Tensor, ok bool) {
	m := tensorLine.FindStringSubmatch(line)
	if m == nil {
		return t, false
	}
	if t.Name = m[1]; strings.HasPrefix(m[1], `"`) {
		if json.Unmarshal([]byte(m[1]), &t.Name) != nil {
			return t, false
		}
	} else if quote(m[1]) != m[1] {
		return t, false
	}
	t.Shape, t.State = []int{}, m[3] == "true"
	if m[2] == "" {
		return t, true
	}
	for _, extent := range strings.Split(m[2], ", ") {
		n, err := strconv.Atoi(extent)
		if err != nil {
			return t, false
		}
		t.Shape = append(t.Shape, n)
	}
	return t, true
}
