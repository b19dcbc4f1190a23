package corpus

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// E1: ids 65535, 65536, 70000 and 151643 in 2-byte storage became 65535, 0, 4464 and
// 20571 elsewhere. The width follows from the vocabulary: up to 65536 entries 2
// bytes, else 4; ids are read back equal; 2 bytes with more entries is an error.
func TestWidthFollowsFromTheVocabulary(t *testing.T) {
	for _, tt := range []struct{ vocab, width int }{
		{1, 1}, {255, 1}, {256, 1}, {257, 2}, {65535, 2}, {65536, 2}, {65537, 4}, {151_936, 4},
	} {
		if got := widthOf(tt.vocab); got != tt.width {
			t.Errorf("width for %d entries = %d, want %d", tt.vocab, got, tt.width)
		}
	}
	ids := []int32{65535, 65536, 70000, 151643}
	set, err := Create(t.Context(), t.TempDir(), "ids", 151_936, ids, ids)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	got := make([]int32, len(ids))
	if err := set.Train.ReadAt(got, 0); err != nil || !slices.Equal(got, ids) {
		t.Errorf("read back %v, %v", got, err)
	}
	_, err = Create(t.Context(), t.TempDir(), "ids", 65_536, ids, ids)
	if err == nil || !strings.Contains(err.Error(), "token 65536 at 1 is outside the vocabulary, the highest is 65535") {
		t.Errorf("65536 entries: %v", err)
	}
}

func TestTokensAreReadBackEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vocab := rapid.IntRange(1, 200_000).Draw(t, "vocab")
		tokens := rapid.SliceOfN(rapid.Int32Range(0, int32(vocab-1)), 1, 40).Draw(t, "tokens")
		raw, err := encode(nil, tokens, vocab)
		if err != nil {
			t.Fatal(err)
		}
		file := newTokens(bytes.NewReader(raw), "tokens", int64(len(tokens)), vocab)
		from := rapid.IntRange(0, len(tokens)).Draw(t, "from")
		got := make([]int32, len(tokens)-from)
		if err := file.ReadAt(got, int64(from)); err != nil || !slices.Equal(got, tokens[from:]) {
			t.Fatalf("read back %v, %v; wrote %v", got, err, tokens[from:])
		}
	})
}

// E14: an id equal to the size of the vocabulary read past the table elsewhere. It is
// refused with the id, where it stands, and the highest one allowed.
func TestATokenOutsideTheVocabularyIsRefused(t *testing.T) {
	raw, err := encode(nil, []int32{7, 50257, 8}, 50258)
	if err != nil {
		t.Fatal(err)
	}
	file := newTokens(bytes.NewReader(raw), "x.tok", 3, 50257)
	err = file.ReadAt(make([]int32, 3), 0)
	const want = "x.tok: token 50257 at 1 is outside the vocabulary, the highest is 50256"
	if err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

func sequence(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// A window's last token is the next one's first: each token but the first is a target
// exactly once, and what does not fill a window at the end is left out.
func TestWindowsCoverTheTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, seq := rapid.IntRange(0, 60).Draw(t, "tokens"), rapid.IntRange(1, 9).Draw(t, "seq")
		file := newTokens(bytes.NewReader(sequence(n)), "tokens", int64(n), 256)
		next := int32(0)
		window := make([]int32, seq+1)
		for i := range file.Windows(seq) {
			if err := file.Window(i, window); err != nil {
				t.Fatal(err)
			}
			for k, token := range window {
				if token != next+int32(k) {
					t.Fatalf("window %d = %v", i, window)
				}
			}
			next += int32(seq)
		}
		if left := n - 1 - int(next); left >= seq {
			t.Fatalf("%d targets are in no window of %d", left, seq)
		}
		for _, i := range []int64{-1, file.Windows(seq)} {
			if err := file.Window(i, window); err == nil {
				t.Fatalf("window %d of %d was read", i, file.Windows(seq))
			}
		}
	})
}

func TestReadingOutsideTheFileFails(t *testing.T) {
	file := newTokens(bytes.NewReader(sequence(10)), "tokens", 10, 256)
	for _, offset := range []int64{-1, 7, 10, 1 << 40} {
		if err := file.ReadAt(make([]int32, 4), offset); err == nil {
			t.Errorf("4 tokens at %d of 10 were read", offset)
		}
	}
}

func TestTokensServeManyReaders(t *testing.T) {
	file := newTokens(bytes.NewReader(sequence(200)), "tokens", 200, 256)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			window := make([]int32, 11)
			for i := range file.Windows(10) {
				if err := file.Window(i, window); err != nil || window[0] != int32(10*i) {
					t.Errorf("window %d = %v, %v", i, window, err)
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkSample(b *testing.B) {
	set, err := Create(b.Context(), b.TempDir(), "numbers", 256, make([]int32, 1<<20), make([]int32, 2))
	if err != nil {
		b.Fatal(err)
	}
	defer set.Close()
	order := NewOrder(1, set.Train.Windows(128))
	window := make([]int32, 129)
	b.ReportAllocs()
	var n uint64
	for b.Loop() {
		if err := set.Train.Sample(order, n, 128, window); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
