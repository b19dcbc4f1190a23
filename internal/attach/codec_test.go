package attach

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
)

// samples is one message of each kind, with whatever can be in it.
func samples() []any {
	return []any{
		&Hello{
			Protocol: 1, Version: "0.1", Rank: 3, World: 4, HostRank: 1, HostWorld: 2, Part: 1, Parts: 2, PID: 7, Incarnation: 9, Engine: "torch",
			Device: "npu", Torch: "2.1", OwnData: true, Name: "ä\"\n", Tensors: []Tensor{{Name: "w", Shape: []int{2, 3}, Tied: []string{"v"}}},
			Pieces: []Piece{{Name: "w", Offset: []int{0, 0}, Extent: []int{1, 3}, Replica: 1}}, Slots: []string{"moment1"},
		},
		&Welcome{Protocol: 1, RunID: "r", Fragments: [][]int{{0}, {}}, Shm: Area{"/dev/shm/x", 64}, Out: []int64{-1}, In: []int64{0}, Run: Document(`{"a":1}`)},
		&Refused{Fault{"parameter", "w", "is not in the run", "rename it", false}}, &Failed{Fault{Problem: "gone", Again: true}}, &Mapped{},
		&Seed{Shm: Area{"/dev/shm/y", 128}, Out: []int64{0, -1}}, &Seeded{},
		&Boundary{Step: 3, Applied: true, Loss: Number(math.Inf(-1)), Tokens: 5, GradientNorm: NumberOf(math.NaN()), ExpertTokens: []int64{1, 2}},
		&Again{}, &Act{Actions: []Action{{Do: Gather, Fragment: 0, Sequence: 2}}, Then: Go, Rate: NumberOf(1e-300), Samples: []Span{{1, 9, true}}, Left: 4},
		&Fetch{Fragment: 1, Version: 2, Op: Adopt}, &Value{Changed: true}, &Gathered{Sequence: 1}, &Adopted{Version: 1},
		&Act{Actions: []Action{{Do: Gate, Gate: &Question{Rows: 1, Tokens: []int32{1, 2, 3}, EndToken: 2, Choices: [][]int32{{0, 1}, nil}}}}, Then: Wait, Samples: []Span{}},
		&Gated{Loss: 5, NumberFormat: "bf16", Choices: [][]int32{{1, 0}}, Problem: "none"},
		&Sketched{},
		&Judge{Loss: Number(math.Inf(1))}, &Verdict{Apply: true, Factor: 0.5, Verdict: "half"}, &Validation{Loss: 2, Tokens: 3}, &Bye{Reason: "enough"},
		&Describe{}, &Run{Run: Document(`{"seed":1}`), Island: "a"}, &Rows{Samples: []uint64{1 << 63, 0}}, TokensOf([]int32{1, -1, 255, 1 << 30}, 2, new(int32)),
		&Act{Actions: []Action{{Do: Restore, Keeping: &Keeping{Slots: []string{"weights"}, Steps: 3, Scale: 65536, Files: []File{{1, "/a"}}}}}, Then: Wait, Samples: []Span{}},
		&Slot{Checkpoint: 3, Slot: "moment1", Steps: 7, Scale: 2, ScaleSteps: 1}, &Taken{}, &Load{Slot: "weights"}, &Loaded{}, &Kept{Checkpoint: 3, Path: "/x"},
	}
}

// Every message comes back as it was, in one line, and again from what it was read to.
func TestMessagesComeBack(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range samples() {
		line, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Errorf("%q is not one line", line)
		}
		got, err := Decode(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		again, err := Encode(got)
		if err != nil || !bytes.Equal(again, line) || reflect.TypeOf(got) != reflect.TypeOf(m) {
			t.Errorf("%s came back as %s, %v", line, again, err)
		}
		seen[kindOf(m)] = true
	}
	if len(seen) != len(kinds()) {
		t.Errorf("%d kinds of %d are tested", len(seen), len(kinds()))
	}
}

// The letters of the protocol: another program's author reads them on the page.
func TestLinesAsOnThePage(t *testing.T) {
	for want, m := range map[string]any{
		`{"kind":"again"}` + "\n": &Again{},
		`{"kind":"act","actions":[{"do":"adopt","fragment":0,"version":3,"sequence":0}],"then":"go","reason":"","rate":0.5,"samples":[[1,2,false]],"left":7,"tokens_seen":9,"clock":12}` + "\n": &Act{Actions: []Action{{Do: Adopt, Version: 3}}, Then: Go, Rate: NumberOf(0.5), Samples: []Span{{1, 2, false}}, Left: 7, TokensSeen: 9, Clock: 12},
		`{"kind":"tokens","count":2,"width":2,"tokens":"AQAAAAIAAAD/AAAABAAAAA==","end_token":null}` + "\n":                                                                                     TokensOf([]int32{1, 2, 255, 4}, 2, nil),
		`{"kind":"judge","loss":"nan","gradient_norm":null}` + "\n":                                                                                                                             &Judge{Loss: Number(math.NaN())},
		`{"kind":"refused","where":"a","value":"b","problem":"c","next":"d"}` + "\n":                                                                                                            &Refused{Fault{"a", "b", "c", "d", false}},
	} {
		if got, err := Encode(m); err != nil || string(got) != want {
			t.Errorf("%s, %v\nwant %s", got, err, want)
		}
	}
}

func TestBadLines(t *testing.T) {
	const hello = `{"kind":"hello","protocol":1,"engine":"torch","rank":0,"world":1,"host_rank":0,"host_world":1,"part":0,"parts":1`
	for line, want := range map[string]string{
		"":                                "unexpected end",
		"nonsense":                        "invalid character",
		"[]":                              "cannot unmarshal array",
		`{"kind":"what"}`:                 `kind "what" is none of act, adopted,`,
		`{"loss":1}`:                      `kind "" is none of`,
		`{"kind":"slot","scale":-1}`:      "scale -1 of 0 steps",
		`{"kind":"slot","scale":"nan"}`:   "scale NaN of 0 steps",
		`{"kind":"judge"`:                 "unexpected end",
		`{"kind":"judge","loss":"zero"}`:  `"zero" is neither a number nor nan, inf or -inf`,
		`{"kind":"boundary","tokens":-1}`: "tokens is -1",
		`{"kind":"boundary","tokens":1099511627777}`:                                            "tokens is 1099511627777",
		`{"kind":"slot","scale":1e39}`:                                                          "scale 1e+39 of 0 steps",
		hello + `,"tensors":[{"name":"w","shape":[-1]}]}`:                                       `tensor "w" has shape [-1]`,
		hello + `,"tensors":[{"name":"w","shape":[0,-1]}]}`:                                     `tensor "w" has shape [0 -1]`,
		hello + `,"tensors":[{"name":"w","shape":[9223372036854775807,2]}]}`:                    `tensor "w" has shape`,
		hello + `,"tensors":[{"name":"v","shape":[281474976710656]},{"name":"w","shape":[1]}]}`: `the tensors up to "w" have more than 2^48 elements`,
		hello + `,"tensors":[{"name":"w","shape":[1` + strings.Repeat(",1", 64) + `]}]}`:        `tensor "w" has 65 dimensions`,
		`{"kind":"boundary","expert_tokens":[1,-2]}`:                                            "expert_tokens 1 is -2",
		`{"kind":"fetch","op":"steal"}`:                                                         `op "steal" is neither adopt nor install`,
		`{"kind":"fetch","op":"adopt","fragment":-1}`:                                           "fragment is -1",
		`{"kind":"rows","samples":[]}`:                                                          "samples is empty",
		`{"kind":"rows","samples":[-1]}`:                                                        "cannot unmarshal number -1",
		`{"kind":"gathered","fragment":-1}`:                                                     "fragment is -1",
		`{"kind":"act","samples":[[1,2]]}`:                                                      "samples of 2 parts",
		strings.Replace(hello, `"rank":0`, `"rank":1`, 1) + "}":                                 "rank 1 of world 1",
		strings.Replace(hello, `"world":1`, `"world":0`, 1) + "}":                               "rank 0 of world 0",
		strings.Replace(hello, `"host_world":1`, `"host_world":2`, 1) + "}":                     "host_world 2 in a world of 1",
		strings.Replace(hello, `"parts":1`, `"parts":2`, 1) + "}":                               "parts 2 in a world of 1",
		strings.Replace(hello, "torch", "jax", 1) + "}":                                         `engine "jax" is neither torch nor external`,
		hello + `,"incarnation":4}`:                                                             "incarnation 4 on part 0",
		`{"kind":"hello","protocol":1,"engine":"torch","rank":1,"world":2,"host_rank":0,"host_world":1,"part":0,"parts":2}`: "rank 0, and it alone, is the first of part 0",
	} {
		if _, err := Decode([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want ...%s", line, err, want)
		}
	}
	if _, err := Decode(make([]byte, MaxLineBytes+1)); err == nil {
		t.Error("a line that is too long was read")
	}
	if _, err := Encode(&Bye{Reason: strings.Repeat("x", MaxLineBytes)}); err == nil {
		t.Error("a line that is too long was written")
	}
	if m, err := Decode([]byte(hello + `,"name":null,"later":[1]}`)); err != nil || m.(*Hello).Name != "" {
		t.Errorf("null, or a field of later: %v, %v", m, err)
	}
}

// Danger: a loss that a trainer does not tell is taken for a perfect one.
func TestLossThatIsNotToldIsUnknown(t *testing.T) {
	for line, loss := range map[string]func(any) Number{
		`{"kind":"boundary","step":1,"applied":true,"tokens":5}`: func(m any) Number { return m.(*Boundary).Loss },
		`{"kind":"judge"}`:                 func(m any) Number { return m.(*Judge).Loss },
		`{"kind":"validation","tokens":9}`: func(m any) Number { return m.(*Validation).Loss },
		`{"kind":"gated"}`:                 func(m any) Number { return m.(*Gated).Loss },
	} {
		m, err := Decode([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if got := loss(m); !math.IsNaN(float64(got)) {
			t.Errorf("%s has loss %v", line, got)
		}
		if again, err := Decode([]byte(line)); err != nil || again == m {
			t.Errorf("a message is given out twice: %v", err)
		}
	}
}

// Whatever comes, Decode neither panics nor lets through what it does not write the same way.
func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		line, err := Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := Decode(line)
		if err != nil {
			return
		}
		once, err := Encode(m)
		if err != nil {
			t.Skip() // a number too large for its field's text
		}
		back, err := Decode(once)
		if err != nil {
			t.Fatalf("%q is read, and then %q is not: %v", line, once, err)
		}
		if twice, err := Encode(back); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q, %v", once, twice, err)
		}
	})
}
