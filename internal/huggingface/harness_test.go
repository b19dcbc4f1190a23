package huggingface

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/rng"
	"github.com/mistura-project/mistura/internal/store"
)

// random fills a model of a configuration with numbers that have all their bits.
func random(cfg model.Config, seed uint64) []float32 {
	params := make([]float32, cfg.Size())
	stream := rng.New(seed, rng.Init, 0)
	for i := range params {
		params[i] = float32(stream.Normal())
	}
	return params
}

// inMemory is a model in memory, ready to be exported.
func inMemory(cfg model.Config, params []float32) Model {
	at := map[string]model.Tensor{}
	for _, t := range cfg.Tensors() {
		at[t.Name] = t
	}
	return Model{Config: cfg, EndToken: -1, Weights: func(name string) (*io.SectionReader, error) {
		t := at[name]
		data := make([]byte, 4*t.Size())
		for i, v := range params[t.Offset : t.Offset+t.Size()] {
			binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
		}
		return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), nil
	}}
}

// export writes a model into a new folder.
func export(t *testing.T, m Model, o Options) (string, Written) {
	t.Helper()
	if o.Dtype == "" {
		o.Dtype = FP32
	}
	if o.Layout == "" {
		o.Layout = Split
	}
	dir := filepath.Join(t.TempDir(), "model")
	w, err := Export(context.Background(), dir, m, o)
	if err != nil {
		t.Fatal(err)
	}
	return dir, w
}

// read opens a folder and reads the whole model.
func read(t *testing.T, dir string) (*Folder, []float32) {
	t.Helper()
	d, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	var out bytes.Buffer
	for _, s := range d.Tensors() {
		if err := s.Write(&out); err != nil {
			t.Fatal(err)
		}
	}
	params := make([]float32, out.Len()/4)
	for i := range params {
		params[i] = math.Float32frombits(binary.LittleEndian.Uint32(out.Bytes()[4*i:]))
	}
	return d, params
}

// sameBits compares two models bit by bit.
func sameBits(t *testing.T, what string, a, b []float32) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%s: %d elements and %d", what, len(a), len(b))
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			t.Fatalf("%s: element %d is %v and %v", what, i, a[i], b[i])
		}
	}
}

// content reads all files of a folder.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

// rewrite changes the tensors of one file of weights.
func rewrite(t *testing.T, path string, alter func(tensors []store.Stream) []store.Stream) {
	t.Helper()
	f, err := store.OpenTensorFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []store.Stream
	for _, info := range f.Tensors() {
		section, _, err := f.Section(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(section)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, raw(info.Name, info.Dtype, info.Shape, data))
	}
	f.Close()
	var out bytes.Buffer
	if err := store.WriteStreams(&out, alter(tensors), nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func raw(name, dtype string, shape []int, data []byte) store.Stream {
	return store.Stream{Name: name, Dtype: dtype, Shape: shape, Write: func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}
}

// bytesOf makes the bytes of a tensor whole.
func bytesOf(t *testing.T, s store.Stream) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := s.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// tiny is a small model of each family with all that the family has.
func tiny(family string) model.Config {
	c := model.Config{
		Name: "tiny", Vocab: 50, Dim: 6, Layers: 3, Heads: 4, KVHeads: 2, HeadDim: 4, DenseLayers: 1, DenseFFN: 7,
		Experts: 8, TopK: 2, ExpertFFN: 5, RopeTheta: 1e4, NormEps: 1e-6, Router: model.Softmax, NormTopK: true,
		BalanceCoef: 0.015, ZCoef: 1e-4, InitStd: 0.05,
	}
	switch family {
	case bailingName:
		c.SharedExperts, c.NormHead = 2, true
	case bailing2Name:
		c.Router, c.SharedExperts, c.QKNorm, c.RouterBias, c.RoutedScale = model.Sigmoid, 1, true, true, 2.5
		c.ExpertGroups, c.TopGroups, c.RotaryDims = 4, 2, 2
	case qwen3Name:
		c.QKNorm = true
	default:
		panic(fmt.Sprintf("no tiny %s", family))
	}
	return c
}
