package anatomy

import (
	"strings"
	"testing"
)

func TestRefusedLayouts(t *testing.T) {
	heads := func(heads, kv int) Decoder { return llama("", 8, heads*128, heads, kv, 1024, 32000) }
	ten := sparse(heads(8, 8), 10, 2, 96)
	for _, c := range []struct {
		name   string
		d      Decoder
		l      Layout
		phrase string
	}{
		{"F1 28 heads", heads(28, 28), Layout{TP: 8}, `tp "8": does not divide the 28 heads; choices 1 2 4 7 14 28`},
		{"F1 64 heads", heads(64, 64), Layout{TP: 3}, `tp "3": does not divide the 64 heads; choices 1 2 4 8 16 32 64`},
		{"F1 and few keys", heads(28, 4), Layout{TP: 8}, "choices 1 2 4 7 14 28; above 4 only with copies of the 4 key/value heads"},
		{"F2 two at 4", heads(16, 2), Layout{TP: 4}, `tp "4": does not divide the 2 key/value heads; at most 2: choices 1 2; or ask for copies`},
		{"F2 four at 8", heads(32, 4), Layout{TP: 8}, `tp "8": does not divide the 4 key/value heads; at most 4: choices 1 2 4; or ask for copies`},
		{"F15 ten experts", ten, Layout{EP: 4}, `ep "4": does not divide the 10 experts; choices 1 2 5 10`},
		{"width of an expert", ten, Layout{ETP: 5}, "etp \"5\": does not divide the width 96 of an expert; choices 1 2 3 4 6 8 12 16 24 32 48 96"},
		{"more stages than layers", ten, Layout{PP: 9}, `pp "9": is more than the 8 layers; use 1 to 8`},
		{"no experts", heads(8, 8), Layout{EP: 2}, "the model has none"},
		{"nothing", heads(8, 8), Layout{TP: -1}, "is no number of ranks"},
		{"width", llama("", 2, 1024, 8, 8, 1022, 32000), Layout{TP: 8}, "does not divide the width 1022 of the MLP; choices 1 2"},
	} {
		one := Single()
		for _, degree := range []struct{ to, from *int }{{&one.TP, &c.l.TP}, {&one.EP, &c.l.EP}, {&one.ETP, &c.l.ETP}, {&one.PP, &c.l.PP}} {
			if *degree.from != 0 {
				*degree.to = *degree.from
			}
		}
		err := one.Check(c.d)
		if err == nil || !strings.Contains(err.Error(), c.phrase) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestF2CopiesThatAreAskedFor(t *testing.T) {
	d := llama("", 8, 4096, 32, 4, 1024, 32000)
	l := Layout{TP: 8, EP: 1, ETP: 1, PP: 1, KVCopies: true}
	if err := l.Check(d); err != nil {
		t.Fatal(err)
	}
	one, _ := Layout{TP: 4, EP: 1, ETP: 1, PP: 1}.For(d).Parameters().Held().Rank(4, 1, 1)
	copied, _ := l.For(d).Parameters().Held().Rank(8, 1, 1)
	if keys := int64(8 * 2 * 4096 * 128); 2*copied <= one || 2*copied-one < keys {
		t.Errorf("a rank of 8 holds %d, one of 4 %d", copied, one)
	}
}

func TestPaddedVocabulary(t *testing.T) {
	d := gpt("gpt-2", 12, 768, 12, 50257, 1024, true)
	for tp, want := range map[int]int{1: 50304, 2: 50432, 8: 51200} {
		if got := (Layout{TP: tp}).For(d).Vocab; got != want {
			t.Errorf("tp %d: %d, Megatron pads to %d", tp, got, want)
		}
	}
	if d.Vocab != 50257 {
		t.Error("the model itself was padded")
	}
}
