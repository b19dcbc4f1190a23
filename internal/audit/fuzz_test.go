package audit_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/mistura-project/mistura/internal/audit"
)

// FuzzRun: whatever stands on a tape, the audit ends, says the same each time and
// leaves the records as they were. A line of the input is a record; an empty line
// goes on to the next sequence, so that two are an era.
func FuzzRun(f *testing.F) {
	lines := func(l ...string) []byte {
		var b []byte
		for _, line := range l {
			b = append(append(b, line...), '\n')
		}
		return b
	}
	f.Add(lines(launchA, launchB, leaseA, leaseB, closeA, again, `{"kind":"end","outcome":"finished"}`, "", view, mergeA, mergeA1, shutA))
	f.Add(lines(launchA, leaseA, spikeA, leaseAgain, skipA, `{"kind":"rollback","skipped":[{"from":6,"to":7}]}`, "", view, mergeA))
	f.Add(lines(launchA, leaseA, `{"kind":"spike","incarnation":1,"position":-5,"samples":[{"from":9,"to":2},{"from":0,"to":9223372036854775807}],"verdict":"skipped"}`, "", view, mergeA))
	f.Add(lines(launchA, leaseA, `{"kind":"checkpoint","checkpoint":1}`, "", view, mergeA, "",
		`{"kind":"era","from_checkpoint":1,"undone":[{"era":1,"fragment":0,"from_version":1,"to_version":1},{"era":1,"fragment":-1}]}`,
		`{"kind":"launch","incarnation":1,"island":"a","leases":[{"from":0,"to":4}],"position":4}`, "", view))
	f.Add(lines(launchA, `{"kind":"lease","incarnation":1,"ranges":[{"from":-9223372036854775808,"to":9223372036854775807},{"from":8,"to":3}]}`, "", view, mergeA))
	f.Add(lines(launchA, leaseA, "", `{"kind":"view","fragments":[-1,1000000000]}`, `{"kind":"merge","fragment":-5,"version":1}`))
	f.Add(lines(launchA, leaseA, "", `{"kind":"merge","parts":[{"incarnation":1,"from_sample_position":-9,"to_sample_position":9223372036854775807}]}`))
	f.Add(lines(`{"kind":"launch","base":9223372036854775807,"leases":[{"from":0,"to":9}]}`, `{"kind":"close","position":-1,"returned":[{"from":5,"to":-5}]}`, "", "[]"))
	f.Fuzz(func(t *testing.T, input []byte) {
		report, err := audit.Run(eras(input))
		given := eras(input)
		again, errAgain := audit.Run(given)
		if (err == nil) != (errAgain == nil) || !reflect.DeepEqual(report, again) {
			t.Fatalf("%+v, %v\nthen %+v, %v", report, err, again, errAgain)
		}
		if !reflect.DeepEqual(given, eras(input)) {
			t.Fatal("the audit changed the records")
		}
	})
}

// eras reads a fuzz input.
func eras(input []byte) []audit.Era {
	var out []audit.Era
	for i, sequence := range bytes.Split(input, []byte("\n\n")) {
		var records []json.RawMessage
		for _, line := range bytes.Split(sequence, []byte("\n")) {
			if len(line) > 0 {
				records = append(records, json.RawMessage(line))
			}
		}
		if i%2 == 0 {
			out = append(out, audit.Era{Coordinator: records})
		} else {
			out[len(out)-1].Group = records
		}
	}
	return out
}
