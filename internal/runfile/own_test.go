package runfile

import "testing"

// With own data a sample is a token. A file that gives a batch and no length of a sequence
// counts tokens; one that gives neither keeps the tokens of the default step.
func TestOwnDataCountsTokens(t *testing.T) {
	const head = "data: {own: true}\nmodel: {tensors: [{name: w, shape: [2]}]}\nislands: [{name: a, engine: external}]\n"
	for text, want := range map[string]int{
		"":                               512,
		"train: {batch_sequences: 64}\n": 64,
		"train: {sequence_tokens: 1, batch_sequences: 64}\n":                64,
		"train: {sequence_tokens: 8, batch_sequences: 64, accumulate: 2}\n": 1024,
	} {
		r, err := Parse("run.yaml", []byte(head+text))
		if err == nil {
			r, err = r.Resolve()
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if r.Train.BatchSequences != want || r.Train.SequenceTokens != 1 || r.Train.Accumulate != 1 {
			t.Errorf("%q: %+v", text, r.Train)
		}
		again, err := Parse("run.yaml", r.Marshal())
		if err == nil {
			again, err = again.Resolve()
		}
		if err != nil || again.StepTokens() != int64(want) {
			t.Errorf("%q, written and read: %d tokens, %v", text, again.StepTokens(), err)
		}
	}
}
