package corpus

import (
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// E10: raw text that contains the literal text of the end token turned into a control
// token elsewhere. Here the end is byte 0xFF; neither its byte nor any spelling of it
// in a text becomes that token.
func TestTextCannotForgeTheEndOfADocument(t *testing.T) {
	for _, text := range []string{"a<|endoftext|>b", "a\xffb", `a\xffb`, "aÿb", "\xff"} {
		texts, _, err := readText(t, "x.txt", text, false)
		if err != nil || len(texts) != 1 || strings.Contains(texts[0], "\xff") {
			t.Errorf("%q gave %q, %v", text, texts, err)
		}
		if slices.Contains(Encode(text), EndOfDocument) {
			t.Errorf("%q is encoded as %v", text, Encode(text))
		}
	}
}

func TestInvalidBytesAreReplacedAndCounted(t *testing.T) {
	for _, name := range []string{"x.txt", "x.jsonl"} {
		content := "a\xff\xfeb\xc3c"
		if name == "x.jsonl" {
			content = `{"text":"` + content + `"}`
		}
		texts, tally, err := readText(t, name, content, false)
		if err != nil || len(texts) != 1 || !utf8.ValidString(texts[0]) || strings.Trim(texts[0], "\uFFFD") == "" {
			t.Errorf("%s: %q, %v", name, texts, err)
		}
		if tally.InvalidBytes != 3 {
			t.Errorf("%s: %d invalid bytes counted, want 3", name, tally.InvalidBytes)
		}
	}
}

func TestByteOrderMarksAreDropped(t *testing.T) {
	for name, content := range map[string]string{
		"x.txt":   byteOrderMark + "text" + byteOrderMark,
		"x.jsonl": byteOrderMark + `{"text":"text` + byteOrderMark + `"}`,
	} {
		if texts, _, err := readText(t, name, content, true); err != nil || !slices.Equal(texts, []string{"text" + byteOrderMark}) {
			t.Errorf("%s: %q, %v", name, texts, err)
		}
	}
}

func TestEmptyFilesAreNoDocuments(t *testing.T) {
	for _, content := range []string{"", byteOrderMark} {
		texts, tally, err := readText(t, "x.txt", content, false)
		if err != nil || len(texts) != 0 || tally.Empty != 1 {
			t.Errorf("%q gave %q, %+v, %v", content, texts, tally, err)
		}
	}
}

func TestLongTextIsCutAtLineEnds(t *testing.T) {
	text := strings.Repeat("0123456789\n", 300_000)
	texts, tally, err := readText(t, "x.txt", text, false)
	if err != nil || strings.Join(texts, "") != text || tally.Files != 1 || tally.Bytes != int64(len(text)) {
		t.Fatalf("%d pieces, %+v, %v", len(texts), tally, err)
	}
	if len(texts) != 4 {
		t.Errorf("%d pieces, want 4", len(texts))
	}
	for i, piece := range texts {
		if !strings.HasSuffix(piece, "\n") {
			t.Errorf("piece %d ends inside a line", i)
		}
	}
}

func TestLongTextWithoutLineEndsIsCutBetweenCharacters(t *testing.T) {
	text := "x" + strings.Repeat("€", 1_000_000)
	texts, tally, err := readText(t, "x.txt", text, false)
	if err != nil || strings.Join(texts, "") != text || tally.InvalidBytes != 0 {
		t.Errorf("%d pieces, %+v, %v", len(texts), tally, err)
	}
}

func TestCutLeavesWholeCharacters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(rapid.StringMatching("[aé€😀\n]{1,20}").Draw(t, "text"))
		text = text[:rapid.IntRange(1, len(text)).Draw(t, "bytes")]
		at := cut(text)
		if at < 1 || at > len(text) {
			t.Fatalf("cut(%q) = %d", text, at)
		}
		if at < len(text) && !utf8.Valid(text[:at]) {
			t.Fatalf("cut(%q) = %d leaves part of a character", text, at)
		}
	})
}

// About the wanted share of documents is held out; more for a greater share.
func TestHeldOutShare(t *testing.T) {
	const n = 20_000
	for _, share := range []float64{0.01, 0.1, 0.5} {
		var d reading
		held := 0
		for i := range n {
			d.documents = d.documents[:0]
			d.keep([]byte{byte('a' + i%26), byte('a' + i/26%26), byte('a' + i/676%26), byte('a' + i/17576)})
			if d.documents[0].heldOut(share) {
				held++
			}
		}
		deviation := math.Sqrt(n * share * (1 - share))
		if math.Abs(float64(held)-n*share) > 5*deviation {
			t.Errorf("share %v: %d of %d held out", share, held, n)
		}
	}
}
