package fragment

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/model"
)

func config(t testing.TB, name string) model.Config {
	t.Helper()
	cfg, err := model.Preset(name)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Every tensor of every preset is in one fragment, for any number of fragments, and
// fragments are about equal: none is larger than an equal part and the largest tensor.
func TestSplitCoversTheModel(t *testing.T) {
	for _, name := range model.PresetNames() {
		cfg := config(t, name)
		tensors := cfg.Tensors()
		largest, total := 0, 0
		for _, tensor := range tensors {
			largest, total = max(largest, tensor.Size()), total+tensor.Size()
		}
		for _, count := range []int{1, 2, 3, 4, 16, len(tensors), len(tensors) + 7} {
			fragments := Split(cfg.Tensors(), count)
			if len(fragments) != min(count, len(tensors)) {
				t.Errorf("%s in %d: %d fragments", name, count, len(fragments))
			}
			seen := map[string]bool{}
			for p, f := range fragments {
				size := 0
				for i, tensor := range f.Tensors {
					if seen[tensor.Name] {
						t.Errorf("%s in %d: tensor %s twice", name, count, tensor.Name)
					}
					seen[tensor.Name] = true
					if f.Sizes[i] != tensor.Size() || (i > 0 && f.Tensors[i-1].Offset >= tensor.Offset) {
						t.Errorf("%s in %d: tensor %s of %d elements, or out of order", name, count, tensor.Name, f.Sizes[i])
					}
					size += tensor.Size()
				}
				if f.Size != size || size == 0 || size > total/count+largest {
					t.Errorf("%s in %d: fragment %d has %d elements and says %d", name, count, p, size, f.Size)
				}
			}
			if len(seen) != len(tensors) {
				t.Errorf("%s in %d: %d of %d tensors", name, count, len(seen), len(tensors))
			}
		}
	}
}

// Gather and Scatter move every element once and touch nothing else.
func TestGatherAndScatter(t *testing.T) {
	cfg := config(t, "ling-tiny")
	rapid.Check(t, func(t *rapid.T) {
		fragments := Split(cfg.Tensors(), rapid.IntRange(1, 9).Draw(t, "fragments"))
		flat := make([]float32, cfg.Size())
		for i := range flat {
			flat[i] = float32(i + 1)
		}
		back := make([]float32, cfg.Size())
		p := rapid.IntRange(0, len(fragments)-1).Draw(t, "one")
		part := make([]float32, fragments[p].Size)
		fragments[p].Gather(part, flat)
		fragments[p].Scatter(back, part)
		moved := 0
		for i := range back {
			switch back[i] {
			case flat[i]:
				moved++
			case 0:
			default:
				t.Fatalf("element %d is %v", i, back[i])
			}
		}
		if moved != fragments[p].Size {
			t.Fatalf("%d elements of %d", moved, fragments[p].Size)
		}
		for _, f := range fragments {
			part := make([]float32, f.Size)
			f.Gather(part, flat)
			f.Scatter(back, part)
		}
		if !slices.Equal(back, flat) {
			t.Fatal("the fragments together are not the model")
		}
	})
}

// Digests are those of each tensor's own little-endian bytes, so that they can be
// compared with anybody's.
func TestDigests(t *testing.T) {
	f := Split(config(t, "ling-tiny").Tensors(), 4)[2]
	src := make([]float32, f.Size)
	for i := range src {
		src[i] = float32(math.Sin(float64(i)))
	}
	digests := f.Digests(src)
	if len(digests) != len(f.Tensors) {
		t.Fatalf("%d digests of %d tensors", len(digests), len(f.Tensors))
	}
	at := 0
	for i, n := range f.Sizes {
		var raw bytes.Buffer
		binary.Write(&raw, binary.LittleEndian, src[at:at+n]) //nolint:errcheck // a buffer takes everything
		want := sha256.Sum256(raw.Bytes())
		if !bytes.Equal(digests[i], want[:]) {
			t.Errorf("tensor %s: %x, want %x", f.Tensors[i].Name, digests[i], want)
		}
		at += n
	}
}
