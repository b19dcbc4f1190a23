package audit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/audit"
	"github.com/mistura-project/mistura/internal/coord"
)

// tape reads records that are written one a line.
func tape(t *testing.T, lines string) []json.RawMessage {
	t.Helper()
	var out []json.RawMessage
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, json.RawMessage(line))
		}
	}
	return out
}

const (
	launchA = `{"kind":"launch","incarnation":1,"island":"a"}`
	launchB = `{"kind":"launch","incarnation":2,"island":"b"}`
	leaseA  = `{"kind":"lease","incarnation":1,"ranges":[{"from":0,"to":8}]}`
	leaseB  = `{"kind":"lease","incarnation":2,"ranges":[{"from":8,"to":12}]}`
	closeA  = `{"kind":"close","incarnation":1,"position":4,"returned":[{"from":4,"to":8}]}`
	view    = `{"kind":"view","fragments":[0,1]}`
	mergeA  = `{"kind":"merge","version":1,"parts":[{"incarnation":1,"sequence":1,"to_sample_position":4}]}`
	mergeA1 = `{"kind":"merge","fragment":1,"version":1,"parts":[{"incarnation":1,"sequence":1,"to_sample_position":2}]}`
	shutA   = `{"kind":"incarnation_closed","incarnation":1,"sample_position":4}`
	spikeA  = `{"kind":"spike","incarnation":1,"position":2,"samples":[{"from":2,"to":4}],"verdict":"withheld"}`
	skipA   = `{"kind":"spike","incarnation":1,"position":8,"samples":[{"from":2,"to":4}],"verdict":"skipped"}`

	leaseAgain = `{"kind":"lease","incarnation":1,"ranges":[{"from":2,"to":4,"due":9}]}`

	again = `{"kind":"lease","incarnation":2,"ranges":[{"from":4,"to":8}]}`
)

// TestDeath is B10 (prime-diloco#98) on the tape: killed with 8 samples leased and 4 in
// the model, the other 4 go to somebody else and count once.
func TestDeath(t *testing.T) {
	r, err := audit.Run([]audit.Era{{
		Coordinator: tape(t, strings.Join([]string{launchA, launchB, leaseA, leaseB, closeA, again, `{"kind":"end","outcome":"finished"}`}, "\n")),
		Group: tape(t, strings.Join([]string{view, mergeA, mergeA1, `{"kind":"dropped"}`, `{"kind":"refused"}`, shutA,
			`{"kind":"merge","version":2,"parts":[{"incarnation":2,"sequence":1,"to_sample_position":6}]}`}, "\n")),
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := audit.Report{
		Eras: 1, Merges: 3, Dropped: 1, Refused: 1, Leased: 12, Consumed: 10, Holding: 2, Outcome: coord.Finished,
		Fragments: []audit.Fragment{{Version: 2, Samples: 10}, {Version: 1, Samples: 2, Missing: 8}},
	}
	got, _ := json.Marshal(r)
	expected, _ := json.Marshal(want)
	if len(r.Nowhere) > 0 || strings.Replace(string(got), `"Nowhere":[]`, `"Nowhere":null`, 1) != string(expected) {
		t.Errorf("got  %s\nwant %s", got, expected)
	}
}

// TestSpikes: a step is withheld, tried again and skipped; what was merged behind it counts
// without it. In a second run it is applied the second time.
func TestSpikes(t *testing.T) {
	group := tape(t, view+"\n"+`{"kind":"merge","version":1,"parts":[{"incarnation":1,"sequence":1,"to_sample_position":10,"withheld_samples":4}]}`)
	r, err := audit.Run([]audit.Era{{
		Coordinator: tape(t, strings.Join([]string{launchA, leaseA, spikeA, leaseAgain, skipA, `{"kind":"end","outcome":"finished"}`}, "\n")), Group: group,
	}})
	if err != nil || len(r.Problems) > 0 {
		t.Fatalf("%v, problems %q", err, r.Problems)
	}
	if r.Spikes != 2 || r.Skipped != 2 || r.Consumed != 6 || r.Leased != 8 || r.Holding != 0 || r.Returned != 0 || r.Fragments[0].Samples != 6 || len(r.Nowhere) > 0 {
		t.Errorf("%+v", r)
	}
	r, err = audit.Run([]audit.Era{{
		Coordinator: tape(t, strings.Join([]string{launchA, leaseA, spikeA, leaseAgain, strings.Replace(skipA, "skipped", "half_rate", 1)}, "\n")),
		Group:       tape(t, strings.Replace(view+"\n"+string(group[1]), `"withheld_samples":4`, `"withheld_samples":2`, 1)),
	}})
	if err != nil || len(r.Problems) > 0 || r.Spikes != 2 || r.Skipped != 0 || r.Consumed != 8 || r.Fragments[0].Samples != 8 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestProblems: what breaks S1 or S2 is named.
func TestProblems(t *testing.T) {
	for name, c := range map[string]struct{ coordinator, group, want string }{
		"sample twice in a fragment": {
			launchA + "\n" + launchB + "\n" + leaseA + "\n" + `{"kind":"lease","incarnation":2,"ranges":[{"from":2,"to":6}]}`,
			view + "\n" + mergeA + "\n" + `{"kind":"merge","version":2,"parts":[{"incarnation":2,"sequence":1,"to_sample_position":4}]}`,
			"samples 2 to 4 are in fragment 0 a second time, by incarnation 2",
		},
		"no such fragment":       {launchA, `{"kind":"view","fragments":[0,-1]}`, "there is no fragment -1"},
		"too many fragments":     {launchA, view + "\n" + `{"kind":"merge","fragment":65536,"version":1}`, "there is no fragment 65536"},
		"leased twice":           {launchA + "\n" + launchB + "\n" + leaseA + "\n" + again, view, "samples 4 to 8 are leased to incarnation 2, but somebody has them"},
		"lease of nobody":        {leaseA, view, "a lease for incarnation 1, which does not live"},
		"launched twice":         {launchA + "\n" + launchA, view, "incarnation 1 is launched twice"},
		"version jumps":          {launchA + "\n" + leaseA, view + "\n" + strings.Replace(mergeA, `"version":1`, `"version":2`, 1), "fragment 0 goes from version 0 to 2"},
		"merged twice":           {launchA + "\n" + leaseA, view + "\n" + mergeA + "\n" + strings.Replace(mergeA, `"version":1`, `"version":2`, 1), "fragment 0 merges contribution 1 of incarnation 1 from position 0, after contribution 1"},
		"merged after its end":   {launchA + "\n" + leaseA, view + "\n" + shutA + "\n" + mergeA, "fragment 0 merges a contribution of incarnation 1 after its end"},
		"merged of nobody":       {launchB, view + "\n" + mergeA, "incarnation 1, which was never launched"},
		"more than it was given": {launchA, view + "\n" + mergeA, "fragment 0 merges positions 0 to 4 of incarnation 1, which was given 0 to 0"},
		"closed before the group": {
			launchA + "\n" + leaseA + "\n" + closeA, view + "\n" + mergeA, "incarnation 1 is closed before the group had put its end on the tape",
		},
		"handed back too much": {
			launchA + "\n" + leaseA + "\n" + `{"kind":"close","incarnation":1,"position":2,"returned":[{"from":2,"to":8}]}`,
			view + "\n" + mergeA + "\n" + shutA, "incarnation 1 is closed at sample position 2, but it is in the model up to 4",
		},
		"handed back too little": {
			launchA + "\n" + leaseA + "\n" + `{"kind":"close","incarnation":1,"position":4,"returned":[{"from":6,"to":8}]}`,
			view + "\n" + mergeA + "\n" + shutA, "hands back [6..8], it should be [4..8]",
		},
		"a spike of nobody":   {spikeA, view, "a spike of incarnation 1, which does not live"},
		"a spike elsewhere":   {launchA + "\n" + leaseA + "\n" + strings.Replace(spikeA, `"position":2`, `"position":4`, 1), view, "has a spike in samples [2..4] at position 4, it holds [4..6] there"},
		"withheld twice":      {launchA + "\n" + leaseA + "\n" + spikeA + "\n" + leaseAgain + "\n" + strings.Replace(spikeA, `"position":2`, `"position":8`, 1), view, "samples 2 to 4 of incarnation 1 are withheld, and 2 of them had been withheld"},
		"skipped at first":    {launchA + "\n" + leaseA + "\n" + strings.Replace(spikeA, "withheld", "skipped", 1), view, "samples 2 to 4 of incarnation 1 are skipped, and 0 of them had been withheld"},
		"again as if new":     {launchA + "\n" + leaseA + "\n" + spikeA + "\n" + strings.Replace(leaseAgain, `,"due":9`, "", 1), view, "samples 2 to 4 are leased to incarnation 1 with second try false, and 2 of them were withheld"},
		"new as if again":     {launchA + "\n" + leaseAgain, view, "with second try true, and 0 of them were withheld"},
		"skipped and leased":  {launchA + "\n" + leaseA + "\n" + spikeA + "\n" + leaseAgain + "\n" + skipA + "\n" + leaseAgain, view, "samples 2 to 4 are leased to incarnation 1, but the run leaves them out"},
		"given up and leased": {launchA + "\n" + `{"kind":"rollback","skipped":[{"from":6,"to":7}]}` + "\n" + leaseA, view, "samples 6 to 7 are leased to incarnation 1, but the run leaves them out"},
		"a hole that is merged": {
			launchA + "\n" + leaseA + "\n" + spikeA + "\n" + `{"kind":"end","outcome":"finished"}`, view + "\n" + mergeA,
			"fragment 0 merges positions 0 to 4 of incarnation 1 less 0 samples, but 2 of them are withheld on the coordinator's tape",
		},
		"a hole that is handed back": {
			launchA + "\n" + leaseA + "\n" + strings.NewReplacer(`"position":2`, `"position":4`, `"from":2,"to":4`, `"from":4,"to":6`).Replace(spikeA) + "\n" + closeA,
			view + "\n" + mergeA + "\n" + shutA, "hands back [4..8], it should be [6..8]",
		},
		"closed twice":                {launchA + "\n" + leaseA + "\n" + closeA + "\n" + closeA, view + "\n" + mergeA + "\n" + shutA, "incarnation 1 is closed, which does not live"},
		"shut twice":                  {launchA + "\n" + leaseA, view + "\n" + mergeA + "\n" + shutA + "\n" + shutA, "the group closes incarnation 1, which does not live"},
		"shut elsewhere":              {launchA + "\n" + leaseA, view + "\n" + shutA, "incarnation 1 is closed at sample position 4 on the group's tape, which holds it up to 0"},
		"takes over from nobody":      {`{"kind":"launch","incarnation":1,"island":"a","leases":[{"from":0,"to":4}],"position":4}`, view, "takes over samples that nobody of island a left"},
		"checkpoint not on the tape":  {`{"kind":"era","from_checkpoint":3}`, view, "checkpoint 3, from which it begins, is not on the tape"},
		"problems are capped, not it": {strings.Repeat(leaseA+"\n", 200), view, "does not live"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := audit.Run([]audit.Era{{Coordinator: tape(t, c.coordinator), Group: tape(t, c.group)}})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(r.Problems, "\n"), c.want) {
				t.Errorf("problems %q, want %q", r.Problems, c.want)
			}
			if len(r.Problems) > 100 {
				t.Errorf("%d problems", len(r.Problems))
			}
		})
	}
}

// TestResume: a later era takes merges back and goes on from the checkpoint, with a
// life that is taken over and one that is not.
func TestResume(t *testing.T) {
	first := audit.Era{
		Coordinator: tape(t, strings.Join([]string{launchA, launchB, leaseA, leaseB, `{"kind":"checkpoint","checkpoint":1}`}, "\n")),
		Group: tape(t, strings.Join([]string{view, mergeA,
			`{"kind":"merge","version":2,"parts":[{"incarnation":2,"sequence":1,"to_sample_position":2}]}`,
			`{"kind":"merge","version":3,"parts":[{"incarnation":2,"sequence":2,"from_sample_position":2,"to_sample_position":4}]}`}, "\n")),
	}
	second := audit.Era{
		Coordinator: tape(t, strings.Join([]string{
			`{"kind":"era","from_checkpoint":1,"undone":[{"era":1,"fragment":0,"from_version":3,"to_version":3}]}`,
			`{"kind":"launch","incarnation":3,"island":"a","leases":[{"from":0,"to":6}],"position":6}`,
			`{"kind":"launch","incarnation":4,"island":"b"}`,
			`{"kind":"lease","incarnation":4,"ranges":[{"from":6,"to":8},{"from":10,"to":12}]}`}, "\n")),
		Group: tape(t, strings.Join([]string{view,
			`{"kind":"merge","version":3,"parts":[{"incarnation":3,"sequence":1,"from_sample_position":4,"to_sample_position":6},{"incarnation":4,"sequence":1,"to_sample_position":4}]}`}, "\n")),
	}
	r, err := audit.Run([]audit.Era{first, second})
	if err != nil || len(r.Problems) > 0 {
		t.Fatalf("%v, problems %q", err, r.Problems)
	}
	if r.Consumed != 12 || r.Leased != 12 || r.Holding != 0 || r.Returned != 0 || r.Fragments[0].Samples != 12 || len(r.Nowhere) > 0 || r.Merges != 3 {
		t.Errorf("%+v", r)
	}
	// Had the undone merge been forgotten, its samples would count twice.
	second.Coordinator[0] = json.RawMessage(`{"kind":"era","from_checkpoint":1}`)
	if r, err = audit.Run([]audit.Era{first, second}); err != nil || !strings.Contains(strings.Join(r.Problems, "\n"), "samples 10 to 12 are leased to incarnation 4") &&
		!strings.Contains(strings.Join(r.Problems, "\n"), "samples 10 to 12 are in fragment 0 a second time") {
		t.Errorf("%v, problems %q", err, r.Problems)
	}
}

func TestUnreadable(t *testing.T) {
	for _, e := range []audit.Era{
		{Coordinator: []json.RawMessage{json.RawMessage(`{"kind":`)}},
		{Coordinator: []json.RawMessage{json.RawMessage(`{"kind":"lease","incarnation":-1}`)}},
		{Group: []json.RawMessage{json.RawMessage(`7`)}},
		{Group: []json.RawMessage{json.RawMessage(`{"kind":"merge","version":"x"}`)}},
	} {
		if _, err := audit.Run([]audit.Era{e}); err == nil || !strings.Contains(err.Error(), "era 1") {
			t.Errorf("%s %s: %v", e.Coordinator, e.Group, err)
		}
	}
	if r, err := audit.Run(nil); err != nil || r.Eras != 0 {
		t.Errorf("no tape: %+v, %v", r, err)
	}
}
