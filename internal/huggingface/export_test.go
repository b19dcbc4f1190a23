package huggingface

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// again exports what was imported.
func again(t *testing.T, dir string, o Options) (string, Written) {
	t.Helper()
	d, params := read(t, dir)
	origin := d.Origin()
	m := inMemory(d.Config, params)
	m.Origin = &origin
	return export(t, m, o)
}

// Out, in and out again gives the same files to the byte, in both formats.
func TestOutInOutIsTheSame(t *testing.T) {
	for _, family := range Families() {
		for _, dtype := range []string{FP32, BF16} {
			cfg := tiny(family)
			m := inMemory(cfg, random(cfg, 1))
			m.Positions, m.EndToken = 64, 3
			o := Options{Family: family, Dtype: dtype, ShardBytes: 9000}
			first, _ := export(t, m, o)
			o.Family = "" // it is remembered
			second, w := again(t, first, o)
			if !maps.Equal(content(t, first), content(t, second)) || w.Family != family {
				t.Errorf("%s in %s: %s and %s differ", family, dtype, first, second)
			}
		}
	}
}

// In fp32 the weights come back to the bit.
func TestWeightsComeBackToTheBit(t *testing.T) {
	const models = 20 // of each family: files are brought to disk each time
	for _, family := range Families() {
		draw := rapid.Custom(func(t *rapid.T) model.Config { return anyModel(t, family) })
		for seed := range models {
			cfg := draw.Example(seed)
			params := random(cfg, 2)
			dir, _ := export(t, inMemory(cfg, params), Options{Family: family})
			_, got := read(t, dir)
			sameBits(t, family, got, params)
		}
	}
}

// Fields that do not change what is computed are given back, others of the folder's
// own are not.
func TestCarriedFieldsComeBack(t *testing.T) {
	cfg := tiny(qwen3Name)
	dir, _ := export(t, inMemory(cfg, random(cfg, 3)), Options{})
	path := filepath.Join(dir, configName)
	var fields map[string]any
	if err := json.Unmarshal([]byte(content(t, dir)[configName]), &fields); err != nil {
		t.Fatal(err)
	}
	fields["eos_token_id"], fields["router_aux_loss_coef"], fields["max_position_embeddings"] = []int{4, 5}, 0.25, 4096
	fields["transformers_version"], fields["_name_or_path"] = "9.9", "secret/place"
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	second, _ := again(t, dir, Options{})
	files := content(t, second)
	for _, want := range []string{`"router_aux_loss_coef": 0.25`, `"max_position_embeddings": 4096`} {
		if !strings.Contains(files[configName], want) {
			t.Errorf("no %s in %s", want, files[configName])
		}
	}
	if !strings.Contains(strings.Join(strings.Fields(files["generation_config.json"]), ""), `"eos_token_id":[4,5]`) {
		t.Errorf("generation_config.json is %s", files["generation_config.json"])
	}
	if strings.Contains(files[configName], "secret") || strings.Contains(files[configName], "9.9") {
		t.Errorf("config.json is %s", files[configName])
	}
}

// State of the routing warm-up is listed and left out.
func TestWarmupStateIsLeftOut(t *testing.T) {
	cfg := tiny(bailingName)
	cfg.RoutingWarmupTokens, cfg.RoutingWarmupWindow = 100, 10
	dir, w := export(t, inMemory(cfg, random(cfg, 4)), Options{})
	if fmt.Sprint(w.LeftOut) != "[layers.1.router_stats layers.2.router_stats]" {
		t.Errorf("left out %v", w.LeftOut)
	}
	if d, _ := read(t, dir); d.Config.RoutingWarmupTokens != 0 {
		t.Error("the warm-up begins again")
	}
}

// A model without a bias in a family whose code always has one gets zeros, which
// come in again as none; a bias that config.json denies is refused.
func TestBiasThatIsOff(t *testing.T) {
	cfg := tiny(bailing2Name)
	cfg.RouterBias = false
	params := random(cfg, 5)
	dir, w := export(t, inMemory(cfg, params), Options{Dtype: BF16})
	if w.Parameters != int64(cfg.Size()) || len(w.KeptFP32) != 2 {
		t.Errorf("wrote %+v", w)
	}
	if d, _ := read(t, dir); d.Config.RouterBias {
		t.Error("zeros are taken for a bias")
	}
	rewrite(t, filepath.Join(dir, singleName), func(tensors []store.Stream) []store.Stream {
		for i, s := range tensors {
			if strings.HasSuffix(s.Name, "expert_bias") {
				data := bytesOf(t, s)
				data[5] = 1
				tensors[i] = raw(s.Name, s.Dtype, s.Shape, data)
			}
		}
		return tensors
	})
	if _, err := Open(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "moe_router_enable_expert_bias") {
		t.Errorf("a bias is passed over: %v", err)
	}
}

// The code of Ling makes tensors without elements of no shared experts.
func TestTensorsWithoutElements(t *testing.T) {
	cfg := tiny(bailingName)
	cfg.SharedExperts = 0
	params := random(cfg, 6)
	dir, _ := export(t, inMemory(cfg, params), Options{})
	rewrite(t, filepath.Join(dir, singleName), func(tensors []store.Stream) []store.Stream {
		return append(tensors, raw("model.layers.1.mlp.shared_experts.up_proj.weight", typeF32, []int{0, cfg.Dim}, nil))
	})
	_, got := read(t, dir)
	sameBits(t, "weights", got, params)
}

// What cannot be read is refused with the tensor's name.
func TestTensorsThatCannotBeRead(t *testing.T) {
	cfg := tiny(bailingName)
	const name = "model.norm.weight"
	for _, c := range []struct {
		says string
		s    store.Stream
	}{
		{"type F64", raw(name, "F64", []int{cfg.Dim}, make([]byte, 8*cfg.Dim))},
		{"shape [7], config.json makes it [6]", raw(name, typeF32, []int{7}, make([]byte, 28))},
		{"shape [1 6]", raw(name, typeF32, []int{1, 6}, make([]byte, 24))},
		{"element 1 is NaN", raw(name, typeBF16, []int{6}, []byte{0, 0, 0xc0, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0})},
		{"element 0 is -Inf", raw(name, typeF16, []int{6}, []byte{0, 0xfc, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})},
	} {
		dir, _ := export(t, inMemory(cfg, random(cfg, 7)), Options{})
		rewrite(t, filepath.Join(dir, singleName), func(tensors []store.Stream) []store.Stream {
			for i, s := range tensors {
				if s.Name == name {
					tensors[i] = c.s
				}
			}
			return tensors
		})
		d, err := Open(context.Background(), dir)
		if err == nil {
			st, openErr := store.OpenFolder(filepath.Join(dir, "in"))
			if openErr != nil {
				t.Fatal(openErr)
			}
			_, err = d.Save(context.Background(), st, "model.safetensors")
			if objects, listErr := st.List(context.Background(), ""); listErr != nil || len(objects) > 0 {
				t.Errorf("%s: %v is left, %v", c.says, objects, listErr)
			}
			d.Close()
		}
		var in *fault.Input
		if !errors.As(err, &in) || in.Value != name || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.says, err)
		}
	}
}

// An imported model is a checkpoint with the model's tensors.
func TestSaveMakesACheckpoint(t *testing.T) {
	cfg := tiny(bailing2Name)
	params := random(cfg, 8)
	m := inMemory(cfg, params)
	m.Positions = 99
	dir, _ := export(t, m, Options{})
	d, _ := read(t, dir)
	ctx := context.Background()
	st := store.NewMemory()
	if _, err := d.Save(ctx, st, "model.safetensors"); err != nil {
		t.Fatal(err)
	}
	c, _, err := store.Newest(ctx, st)
	if err != nil {
		t.Fatal(err)
	}
	var meta Meta
	if err := errors.Join(c.Verify(ctx), c.Meta(&meta)); err != nil {
		t.Fatal(err)
	}
	if meta.Model != d.Config || meta.SampleTokens != 99 || meta.Origin.Family != bailing2Name {
		t.Errorf("meta is %+v", meta)
	}
	f, err := c.Tensors(ctx, "model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, tensor := range cfg.Tensors() {
		got := make([]float32, tensor.Size())
		if err := f.ReadF32(tensor.Name, got); err != nil {
			t.Fatal(err)
		}
		sameBits(t, tensor.Name, got, params[tensor.Offset:tensor.Offset+tensor.Size()])
	}
}

// An export that fails leaves nothing, and nothing is written over.
func TestExportAppearsWholeOrNotAtAll(t *testing.T) {
	ctx, cfg := context.Background(), tiny(bailingName)
	parent := t.TempDir()
	o := Options{Dtype: FP32, Layout: Split, ShardBytes: 4000}
	broken := inMemory(cfg, random(cfg, 9))
	whole := broken.Weights
	broken.Weights = func(name string) (*io.SectionReader, error) {
		if name == "norm" {
			return nil, errors.New("the disk is gone")
		}
		return whole(name)
	}
	if _, err := Export(ctx, filepath.Join(parent, "model"), broken, o); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("gives %v", err)
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	broken.Weights = whole
	if err := os.Mkdir(filepath.Join(parent, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"empty", "new/er"} {
		if _, err := Export(ctx, filepath.Join(parent, name), broken, o); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		var in *fault.Input
		if _, err := Export(ctx, filepath.Join(parent, name), broken, o); !errors.As(err, &in) || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("%d: a folder is written over: %v", i, err)
		}
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	if _, err := Export(stopped, filepath.Join(parent, "stopped"), broken, o); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupt gives %v", err)
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 2 {
		t.Errorf("left %v, %v", entries, err)
	}
	if err := CheckSpace(ctx, parent, math.MaxInt64); err == nil || !strings.Contains(err.Error(), "free") {
		t.Errorf("a full disk gives %v", err)
	}
}

// A number that bf16 cannot hold is refused with its tensor.
func TestNumberTooLargeForBrainFloat(t *testing.T) {
	cfg := tiny(bailingName)
	params := random(cfg, 10)
	params[3] = math.MaxFloat32
	_, err := Export(context.Background(), filepath.Join(t.TempDir(), "x"), inMemory(cfg, params), Options{Dtype: BF16, Layout: Split})
	if err == nil || !strings.Contains(err.Error(), "embedding: element 3 is +Inf in bfloat16") {
		t.Errorf("gives %v", err)
	}
}

// toBrain rounds to the nearest, to even between two, for every neighbourhood.
func TestBrainFloatRounding(t *testing.T) {
	for b := range 1 << 16 {
		low := fromBrain(uint16(b))
		if finite(low, 0) != nil {
			continue
		}
		if toBrain(low) != uint16(b) {
			t.Fatalf("%x is not its own rounding", b)
		}
		bits := uint32(b) << 16
		even, odd := uint16(b), uint16(b+1)
		if b&1 == 1 {
			even, odd = odd, even
		}
		for offset, want := range map[uint32]uint16{1: uint16(b), 0x7fff: uint16(b), 0x8000: even, 0x8001: uint16(b + 1), 0xffff: uint16(b + 1)} {
			if got := toBrain(math.Float32frombits(bits + offset)); got != want {
				t.Fatalf("%x + %x is rounded to %x, wanted %x (the other is %x)", bits, offset, got, want, odd)
			}
		}
	}
}

func TestFoldersThatAreNoModel(t *testing.T) {
	cfg := tiny(bailingName)
	for _, c := range []struct{ without, with, says string }{
		{configName, "other", configName},
		{singleName, "other", "neither"},
		{singleName, "pytorch_model.bin", "PyTorch's own format"},
		{"", indexName, "both"},
	} {
		dir, _ := export(t, inMemory(cfg, random(cfg, 1)), Options{})
		if c.without != "" {
			if err := os.Remove(filepath.Join(dir, c.without)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, c.with), []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		var in *fault.Input
		if _, err := Open(context.Background(), dir); !errors.As(err, &in) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("without %s, with %s: %v", c.without, c.with, err)
		}
	}
}

// A disk that others fill while we write is the user's to mend, in one plain line.
func TestDiskFull(t *testing.T) {
	deep := fmt.Errorf("export: put a: %w: write /x/.tmp-a: no space left on device", store.ErrFull)
	var in *fault.Input
	if err := DiskFull("out/nano", deep); !errors.As(err, &in) || in.Value != "out/nano" || strings.Contains(err.Error(), ".tmp") {
		t.Errorf("%v", err)
	}
	if other := errors.New("x"); DiskFull("out", other) != other || DiskFull("out", nil) != nil {
		t.Error("other errors change")
	}
}
