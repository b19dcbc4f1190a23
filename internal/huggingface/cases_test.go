package huggingface

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/engine"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// TestD8ExpertsInAnyFiles: wherever the experts lie, in one file, two or many, the
// same model comes in.
func TestD8ExpertsInAnyFiles(t *testing.T) {
	for _, family := range Families() {
		cfg := tiny(family)
		params := random(cfg, 8)
		for _, files := range []int{1, 2, 4} {
			dir, w := export(t, inMemory(cfg, params), Options{Family: family, ShardBytes: int64(4*cfg.Size()/files) + 400})
			if len(w.Files) != files {
				t.Errorf("%s: %d files, wanted %d", family, len(w.Files), files)
			}
			d, got := read(t, dir)
			d.Config.Name = cfg.Name
			if d.Config != cfg {
				t.Errorf("%s: read as %+v", family, d.Config)
			}
			sameBits(t, fmt.Sprintf("%s in %d files", family, files), got, params)
		}
	}
}

// TestD9EveryTensorIsNamed: one expert tensor under another name, and the import
// fails with the model's tensor and the file's.
func TestD9EveryTensorIsNamed(t *testing.T) {
	cfg := tiny(bailingName)
	dir, _ := export(t, inMemory(cfg, random(cfg, 9)), Options{})
	const right, wrong = "model.layers.1.mlp.experts.3.up_proj.weight", "model.layers.1.mlp.experts.3.w3.weight"
	rewrite(t, filepath.Join(dir, singleName), func(tensors []store.Stream) []store.Stream {
		for i := range tensors {
			if tensors[i].Name == right {
				tensors[i].Name = wrong
			}
		}
		return slices.DeleteFunc(tensors, func(s store.Stream) bool { return s.Name == "model.layers.2.attention.query_key_value.weight" })
	})
	_, err := Open(context.Background(), dir)
	var mismatch *Mismatch
	var in *fault.Input
	if !errors.As(err, &mismatch) || !errors.As(err, &in) {
		t.Fatal(err)
	}
	wantMissing := []string{"layers.1.experts.3.up (" + right + ")"}
	for _, part := range []string{"q", "k", "v"} { // three tensors of ours lie in one of theirs
		wantMissing = append(wantMissing, "layers.2.attention."+part+" (model.layers.2.attention.query_key_value.weight)")
	}
	if !slices.Equal(mismatch.Missing, wantMissing) || !slices.Equal(mismatch.Unused, []string{wrong}) || mismatch.Long() {
		t.Errorf("%+v", mismatch)
	}
	for _, name := range append(wantMissing, wrong) {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in %v", name, err)
		}
	}
}

// A configuration of very many more tensors than there are is refused before they are
// listed.
func TestD9ConfigurationOfAnotherSize(t *testing.T) {
	cfg := tiny(qwen3Name)
	dir, _ := export(t, inMemory(cfg, random(cfg, 9)), Options{})
	path := filepath.Join(dir, configName)
	text := strings.Replace(content(t, dir)[configName], `"num_hidden_layers": 3`, `"num_hidden_layers": 4096`, 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "makes some 131072 tensors, the files hold 80") {
		t.Error(err)
	}
}

// TestD11TiedEmbeddings: no head anywhere when it is tied, a head when it is not,
// and the configuration says which.
func TestD11TiedEmbeddings(t *testing.T) {
	for _, tied := range []bool{true, false} {
		cfg := tiny(qwen3Name)
		cfg.TiedEmbeddings = tied
		params := random(cfg, 11)
		dir, w := export(t, inMemory(cfg, params), Options{ShardBytes: 4000})
		if len(w.Files) < 2 {
			t.Fatal("there is no index to look at")
		}
		index := content(t, dir)[indexName]
		if strings.Contains(index, "lm_head") == tied || !strings.Contains(index, "model.embed_tokens.weight") {
			t.Errorf("tied %v: %s", tied, index)
		}
		d, got := read(t, dir)
		if d.Config.TiedEmbeddings != tied {
			t.Errorf("tied %v is read as %v", tied, d.Config.TiedEmbeddings)
		}
		sameBits(t, "weights", got, params)
	}
}

// A head that is saved beside a tied embedding must be the embedding.
func TestD11HeadThatIsTheEmbeddingOnceMore(t *testing.T) {
	cfg := tiny(qwen3Name)
	cfg.TiedEmbeddings = true
	dir, _ := export(t, inMemory(cfg, random(cfg, 11)), Options{})
	path := filepath.Join(dir, singleName)
	addHead := func(flip byte) {
		rewrite(t, path, func(tensors []store.Stream) []store.Stream {
			embedding := tensors[0]
			data := bytesOf(t, embedding)
			data[len(data)-1] ^= flip
			tensors = slices.DeleteFunc(tensors, func(s store.Stream) bool { return s.Name == "lm_head.weight" })
			return append(tensors, raw("lm_head.weight", embedding.Dtype, embedding.Shape, data))
		})
	}
	addHead(0)
	d, _ := read(t, dir)
	if !slices.ContainsFunc(d.Notes, func(n string) bool { return strings.Contains(n, "lm_head.weight is model.embed_tokens.weight") }) {
		t.Errorf("notes are %q", d.Notes)
	}
	addHead(1)
	if _, err := Open(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "tie_word_embeddings") {
		t.Errorf("another head is taken: %v", err)
	}
}

// TestD12MissingShard: the file that the index names and the folder lacks is named.
func TestD12MissingShard(t *testing.T) {
	cfg := tiny(bailing2Name)
	dir, w := export(t, inMemory(cfg, random(cfg, 12)), Options{ShardBytes: int64(4*cfg.Size())/3 + 400})
	if len(w.Files) != 3 {
		t.Fatalf("files are %v", w.Files)
	}
	if err := os.Remove(filepath.Join(dir, w.Files[1])); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), dir)
	var in *fault.Input
	if !errors.As(err, &in) || filepath.Base(in.Where) != w.Files[1] || !strings.Contains(in.Problem, "missing") {
		t.Error(err)
	}
}

// An index that does not say what the files hold is refused with the tensor's name.
func TestD12IndexAndFilesDisagree(t *testing.T) {
	cfg := tiny(bailingName)
	for _, c := range []struct{ says, alter string }{
		{"which is not in it", "move"}, {"does not name this tensor", "drop"}, {"stands in", "copy"},
	} {
		dir, w := export(t, inMemory(cfg, random(cfg, 12)), Options{ShardBytes: 8000})
		path := filepath.Join(dir, indexName)
		var index map[string]map[string]any
		if err := json.Unmarshal([]byte(content(t, dir)[indexName]), &index); err != nil {
			t.Fatal(err)
		}
		switch c.alter {
		case "move":
			index["weight_map"]["model.norm.weight"] = w.Files[0]
		case "drop":
			delete(index["weight_map"], "model.norm.weight")
		case "copy":
			rewrite(t, filepath.Join(dir, w.Files[0]), func(tensors []store.Stream) []store.Stream {
				return append(tensors, raw("model.norm.weight", typeF32, []int{0}, nil))
			})
		}
		data, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(context.Background(), dir); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "model.norm.weight") {
			t.Errorf("%s: %v", c.alter, err)
		}
	}
}

// TestD13PaddedVocabulary: rows that padding added for training are left out, said,
// and never written; any other number of rows is refused.
func TestD13PaddedVocabulary(t *testing.T) {
	cfg := tiny(bailingName)
	cfg.Vocab, cfg.Dim, cfg.Heads, cfg.KVHeads, cfg.HeadDim, cfg.Layers, cfg.DenseLayers = 50257, 2, 1, 1, 2, 1, 0
	params := random(cfg, 13)
	for _, c := range []struct {
		rows int
		ok   bool
	}{{50257, true}, {50304, true}, {50432, true}, {50688, true}, {51200, true}, {50258, false}, {50256, false}, {151936, false}} {
		dir, w := export(t, inMemory(cfg, params), Options{})
		rewrite(t, filepath.Join(dir, singleName), func(tensors []store.Stream) []store.Stream {
			for i, s := range tensors {
				if s.Name == "lm_head.weight" || s.Name == "model.word_embeddings.weight" {
					data := make([]byte, c.rows*cfg.Dim*4) // padding rows are zero
					copy(data, bytesOf(t, s))
					tensors[i] = raw(s.Name, s.Dtype, []int{c.rows, cfg.Dim}, data)
				}
			}
			return tensors
		})
		d, err := Open(context.Background(), dir)
		if (err == nil) != c.ok {
			t.Errorf("%d rows: %v", c.rows, err)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "[50257 2]") {
				t.Errorf("%d rows: %v", c.rows, err)
			}
			continue
		}
		d.Close()
		d, got := read(t, dir)
		sameBits(t, "weights", got, params)
		padded := slices.ContainsFunc(d.Notes, func(n string) bool { return strings.Contains(n, fmt.Sprintf("%d rows behind", c.rows-50257)) })
		if padded != (c.rows > 50257) {
			t.Errorf("%d rows: notes are %q", c.rows, d.Notes)
		}
		if again, w2 := export(t, inMemory(d.Config, got), Options{}); w2.Bytes != w.Bytes {
			t.Errorf("%d rows: %s holds %d bytes, wanted %d", c.rows, again, w2.Bytes, w.Bytes)
		}
	}
	checkEqualLogits(t, cfg)
	checkWholeVocabulary(t, cfg)
}

// checkWholeVocabulary: 151936 rows are a whole number of blocks and stay as they are; the
// rows of a size that was padded twice are refused.
func checkWholeVocabulary(t *testing.T, cfg model.Config) {
	t.Helper()
	cfg.Vocab, cfg.TiedEmbeddings, cfg.NormHead = 151936, true, false
	params := random(cfg, 13)
	dir, _ := export(t, inMemory(cfg, params), Options{})
	d, got := read(t, dir)
	sameBits(t, "weights", got, params)
	if len(d.Notes) > 0 || d.Config.Vocab != 151936 {
		t.Errorf("vocabulary of %d: notes are %q", d.Config.Vocab, d.Notes)
	}
	rewrite(t, filepath.Join(dir, singleName), func(tensors []store.Stream) []store.Stream {
		tensors[0] = raw(tensors[0].Name, typeF32, []int{2 * cfg.Vocab, cfg.Dim}, make([]byte, 8*cfg.Vocab*cfg.Dim))
		return tensors
	})
	if _, err := Open(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "[303872 2]") {
		t.Errorf("303872 rows: %v", err)
	}
}

// checkEqualLogits: only the rows of the vocabulary are in the loss, ln 50257.
func checkEqualLogits(t *testing.T, cfg model.Config) {
	t.Helper()
	e, err := engine.New(cfg, engine.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close() // its parameters are zero
	sum, n, err := e.Loss(engine.Batch{Tokens: []int32{1, 50256, 7}, Rows: 1})
	if loss := sum / float64(n); err != nil || math.Abs(loss-10.8249) > 1e-4 {
		t.Errorf("equal logits give %v, %v; ln 50257 is 10.8249", loss, err)
	}
}

// TestD14BrainFloat: all tensors are bf16 but a listed few, the configuration says
// so, and the bytes are 2 for each parameter and 2 more for each on the list.
func TestD14BrainFloat(t *testing.T) {
	for family, wantKept := range map[string]int{bailingName: 0, bailing2Name: 2, qwen3Name: 0} {
		cfg := tiny(family)
		dir, w := export(t, inMemory(cfg, random(cfg, 14)), Options{Family: family, Dtype: BF16})
		if len(w.KeptFP32) != wantKept {
			t.Errorf("%s: kept %v", family, w.KeptFP32)
		}
		f, err := store.OpenTensorFile(filepath.Join(dir, singleName))
		if err != nil {
			t.Fatal(err)
		}
		more := int64(0)
		for _, info := range f.Tensors() {
			want := "BF16"
			if slices.Contains(w.KeptFP32, info.Name) {
				want, more = "F32", more+2*int64(info.Shape[0])
			}
			if info.Dtype != want {
				t.Errorf("%s: %s is %s", family, info.Name, info.Dtype)
			}
		}
		f.Close()
		if w.Bytes != 2*int64(cfg.Size())+more || w.Parameters != int64(cfg.Size()) {
			t.Errorf("%s: %d bytes, %d parameters; wanted 2 × %d + %d", family, w.Bytes, w.Parameters, cfg.Size(), more)
		}
		if d, _ := read(t, dir); d.Dtype != "bfloat16" {
			t.Errorf("%s: config.json says %s", family, d.Dtype)
		}
	}
}

// TestD15LayoutsOfExperts: 4 layers of 8 experts are 96 expert tensors when split
// and 8 when grouped; both come back to the same bits.
func TestD15LayoutsOfExperts(t *testing.T) {
	cfg := tiny(qwen3Name)
	cfg.Layers, cfg.DenseLayers, cfg.DenseFFN = 4, 0, 0
	params := random(cfg, 15)
	for layout, want := range map[string]int{Split: 96, Grouped: 8} {
		dir, w := export(t, inMemory(cfg, params), Options{Layout: layout})
		f, err := store.OpenTensorFile(filepath.Join(dir, singleName))
		if err != nil {
			t.Fatal(err)
		}
		experts := 0
		for _, info := range f.Tensors() {
			if strings.Contains(info.Name, ".experts.") {
				experts++
			}
			if strings.HasSuffix(info.Name, gateUpGroup) && !slices.Equal(info.Shape, []int{8, 2 * cfg.ExpertFFN, cfg.Dim}) ||
				strings.HasSuffix(info.Name, downGroup) && !slices.Equal(info.Shape, []int{8, cfg.Dim, cfg.ExpertFFN}) {
				t.Errorf("%s has shape %v", info.Name, info.Shape)
			}
		}
		f.Close()
		if experts != want || w.Layout != layout {
			t.Errorf("%s: %d expert tensors", w.Layout, experts)
		}
		_, got := read(t, dir)
		sameBits(t, layout, got, params)
	}
	_, err := Export(context.Background(), filepath.Join(t.TempDir(), "x"), inMemory(tiny(bailingName), nil), Options{Dtype: FP32, Layout: Grouped})
	if err == nil || !strings.Contains(err.Error(), "--experts") {
		t.Errorf("a layout that no reader of the family takes is written: %v", err)
	}
}

// TestD16CastsAreSaid: one line for each kind of cast, and none where nothing is cast.
func TestD16CastsAreSaid(t *testing.T) {
	cfg := tiny(bailing2Name)
	dir, _ := export(t, inMemory(cfg, random(cfg, 16)), Options{})
	if d, _ := read(t, dir); len(d.Casts) != 0 {
		t.Errorf("fp32 is cast: %q", d.Casts)
	}
	dir, _ = export(t, inMemory(cfg, random(cfg, 16)), Options{Dtype: BF16})
	rewrite(t, filepath.Join(dir, singleName), func(tensors []store.Stream) []store.Stream {
		for i, s := range tensors {
			if s.Name == "model.norm.weight" { // 1, 2, -0.5, the largest, the smallest, 0
				half := []byte{0x00, 0x3c, 0x00, 0x40, 0x00, 0xb8, 0xff, 0x7b, 0x01, 0x00, 0x00, 0x00}
				tensors[i] = raw(s.Name, typeF16, s.Shape, half)
			}
		}
		return tensors
	})
	d, got := read(t, dir)
	biases := 2 * cfg.Experts
	want := []string{ // embedding and head, 6 a layer, 3 in the dense one, router and 9 MLPs in the others
		fmt.Sprintf("cast BF16 to F32: 79 tensors, %d elements; no value changes", cfg.Size()-cfg.Dim-biases),
		"cast F16 to F32: 1 tensors, 6 elements; no value changes",
	}
	if !slices.Equal(d.Casts, want) || !slices.Equal(d.Origin().Casts, want) {
		t.Errorf("casts are %q, wanted %q", d.Casts, want)
	}
	for _, tensor := range cfg.Tensors() {
		if tensor.Name == "norm" {
			sameBits(t, "halves", got[tensor.Offset:tensor.Offset+6], []float32{1, 2, -0.5, 65504, 0x1p-24, 0})
		}
	}
}

// FuzzWeights: no file of weights makes the reader panic or take much memory, and
// what is accepted gives every tensor of the model, finite.
func FuzzWeights(f *testing.F) {
	cfg := tiny(bailing2Name)
	cfg.Layers, cfg.Experts, cfg.ExpertGroups, cfg.TopGroups, cfg.Vocab, cfg.RouterBias = 2, 2, 0, 0, 4, false
	for _, o := range []Options{{Dtype: FP32, Layout: Split}, {Dtype: BF16, Layout: Split}} {
		dir := filepath.Join(f.TempDir(), "model")
		if _, err := Export(context.Background(), dir, inMemory(cfg, random(cfg, 1)), o); err != nil {
			f.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, singleName))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)-3])
	}
	fam := bailing2()
	config := inMemory(cfg, nil).smallFiles(fam, Options{Dtype: FP32})[configName]
	dir := f.TempDir() // of this process; its tests run one after the other
	if err := os.WriteFile(filepath.Join(dir, configName), config, 0o644); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, singleName), data, 0o644); err != nil {
			t.Fatal(err)
		}
		d, err := Open(context.Background(), dir)
		if err != nil {
			return
		}
		defer d.Close()
		for _, s := range d.Tensors() {
			var out bytes.Buffer
			if err := s.Write(&out); err != nil {
				var in *fault.Input
				if !errors.As(err, &in) {
					t.Fatalf("%s: %v", s.Name, err)
				}
				continue
			}
			n := 4
			for _, extent := range s.Shape {
				n *= extent
			}
			if out.Len() != n {
				t.Fatalf("%s of shape %v has %d bytes", s.Name, s.Shape, out.Len())
			}
		}
	})
}
