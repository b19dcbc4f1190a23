package anatomy

import (
	"math"
	"regexp"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/mistura-project/mistura/internal/model"
)

// The number of parameters that the weights' files of these models have.
func TestPublishedCounts(t *testing.T) {
	for _, c := range []struct {
		d     Decoder
		total int64
	}{
		{llama("llama-2-7b", 32, 4096, 32, 32, 11008, 32000), 6_738_415_616},
		{llama("llama-2-13b", 40, 5120, 40, 40, 13824, 32000), 13_015_864_320},
		{llama("llama-2-70b", 80, 8192, 64, 8, 28672, 32000), 68_976_648_192},
		{llama("llama-3-8b", 32, 4096, 32, 8, 14336, 128256), 8_030_261_248},
		{llama("llama-3-70b", 80, 8192, 64, 8, 28672, 128256), 70_553_706_496},
		{llama("llama-3.1-405b", 126, 16384, 128, 8, 53248, 128256), 405_853_388_800},
		{gpt("gpt-2", 12, 768, 12, 50257, 1024, true), 124_439_808},
		{gpt("gpt-2-xl", 48, 1600, 25, 50257, 1024, true), 1_557_611_200},
		{gpt("gpt-neox-20b", 44, 6144, 64, 50432, 0, false), 20_554_567_680},
		{mixtral8x7B(), 46_702_792_704},
		{qwen3x30B(), 30_532_122_624},
		{olmoe(), 6_919_161_856},
		{deepSeek("deepseek-v2", 60, 5120, 128, 1536, 1, 12288, 160, 6, 1536, 2, 102400), 235_741_434_880},
		{deepSeek("deepseek-v2-lite", 27, 2048, 16, 0, 1, 10944, 64, 6, 1408, 2, 102400), 15_706_484_224},
		{deepSeekV3(), 671_026_419_200},
		{gptOSS(), 116_829_156_672},
	} {
		if got := c.d.Parameters().Total(); got != c.total {
			t.Errorf("%s has %d parameters, the published files %d", c.d.Name, got, c.total)
		}
	}
}

// Active parameters as the makers round them: 37 B (DeepSeek-V3, arXiv 2412.19437;
// embedding and head are 0.9 B each), 3.3 B (Qwen3, arXiv 2505.09388, table 2), 1.3 B (OLMoE,
// arXiv 2409.02060).
func TestPublishedActiveCounts(t *testing.T) {
	for _, c := range []struct {
		d    Decoder
		want string
	}{{deepSeekV3(), "37.55 B"}, {qwen3x30B(), "3.353 B"}, {olmoe(), "1.282 B"}, {mixtral8x7B(), "12.88 B"}} {
		if got := Count(c.d.Parameters().Active()); got != c.want {
			t.Errorf("%s: %s active, want %s", c.d.Name, got, c.want)
		}
	}
}

// DeepSeek's page of its weights gives the module about 11.5 B of its own.
func TestMTPModules(t *testing.T) {
	d := deepSeekV3()
	if got := d.Modules().Total(); math.Abs(float64(got)/11.5e9-1) > 0.01 {
		t.Errorf("the module has %d", got)
	}
	d.MTP = 0
	if d.Modules().Total() != 0 {
		t.Error("no module has parameters")
	}
}

func TestF4TotalAndActive(t *testing.T) {
	p := mixtral8x7B().Parameters()
	if p.Total() != 46_702_792_704 || p.Active() != 12_879_925_248 {
		t.Errorf("%d in all, %d active", p.Total(), p.Active())
	}
	one := p.Held()
	dense, routed := one.Rank(1, 1, 1)
	if dense+routed != p.Total() {
		t.Errorf("memory is from %d parameters, not from all", dense+routed)
	}
}

func TestF6SplitCopiedRouted(t *testing.T) {
	dense, routed := Held{Tensor: 6e9, Copied: 1e8, Routed: 40e9}.Rank(8, 2, 1)
	if dense != 750_000_000+100_000_000 || routed != 20_000_000_000 {
		t.Errorf("a rank holds %d and %d", dense, routed)
	}
}

func TestF8TiedEmbeddings(t *testing.T) {
	d := llama("qwen3-0.6b", 28, 1024, 16, 8, 3072, 151936)
	apart := d.Parameters().Total()
	d.Tied = true
	if got := apart - d.Parameters().Total(); got != 155_582_464 {
		t.Errorf("the difference is %d", got)
	}
}

func TestModelsOfOursCountAlike(t *testing.T) {
	for _, name := range model.PresetNames() {
		c, err := model.Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		countsAlike(t, c)
	}
}

func countsAlike(t *testing.T, c model.Config) {
	t.Helper()
	p, want := Of(c).Parameters(), c.Count()
	if p.Total() != want.Total || p.Active() != want.Active {
		t.Errorf("%s: %d parameters, %d active, want %d and %d", c.Name, p.Total(), p.Active(), want.Total, want.Active)
	}
	for kind, n := range want.ByKind {
		if p.Kind(kind) != n {
			t.Errorf("%s: %d parameters of kind %s, want %d", c.Name, p.Kind(kind), kind, n)
		}
	}
}

// The stages of a pipeline hold the model once, and a tied embedding twice.
func TestStagesHoldTheModel(t *testing.T) {
	for _, d := range []Decoder{deepSeekV3(), gpt("gpt-2", 12, 768, 12, 50257, 1024, true)} {
		for _, pp := range []int{1, 2, 5, 12} {
			sum, layers := int64(0), 0
			for _, s := range d.Stages(pp) {
				sum += s.Parameters().Total()
				for _, r := range s.Held {
					layers += r.Count
				}
			}
			want := d.Parameters().Total()
			if d.Tied && pp > 1 {
				want += d.Parameters().Kind(model.Embedding)
			}
			if sum != want || layers != d.Depth() {
				t.Errorf("%s in %d stages: %d parameters in %d layers, want %d", d.Name, pp, sum, layers, want)
			}
		}
	}
}

func TestF17StagesDifferByOneAtMost(t *testing.T) {
	var sizes []int
	for _, s := range gpt("", 12, 768, 12, 50257, 0, true).Stages(5) {
		sizes = append(sizes, s.Held[0].Count)
	}
	if got := choices(sizes); got != "2 2 2 3 3" {
		t.Errorf("stages of %s layers", got)
	}
}

// A formula comes to its number.
func TestFormulasComeToTheirNumbers(t *testing.T) {
	for _, d := range []Decoder{deepSeekV3(), mixtral8x7B(), olmoe(), gpt("gpt-2", 12, 768, 12, 50257, 1024, true), gptOSS()} {
		for _, part := range append(d.Parameters(), d.Modules()...) {
			if got := evaluated(t, part.Formula); got != part.Count {
				t.Errorf("%s: %s comes to %d, not %d", d.Name, part.Formula, got, part.Count)
			}
		}
	}
}

// evaluated computes a formula; its words say nothing.
func evaluated(t rapid.TB, formula string) int64 {
	t.Helper()
	tokens := regexp.MustCompile(`[0-9]+|[+×()]`).FindAllString(formula, -1)
	value, rest := sumOf(tokens)
	if len(rest) > 0 {
		t.Fatalf("%s: cannot be read from %v", formula, rest)
	}
	return value
}

func sumOf(tokens []string) (int64, []string) {
	value, rest := productOf(tokens)
	for len(rest) > 0 && rest[0] == "+" {
		var more int64
		more, rest = productOf(rest[1:])
		value += more
	}
	return value, rest
}

func productOf(tokens []string) (int64, []string) {
	value, rest := atomOf(tokens)
	for len(rest) > 0 && rest[0] == "×" {
		var more int64
		more, rest = atomOf(rest[1:])
		value *= more
	}
	return value, rest
}

func atomOf(tokens []string) (int64, []string) {
	if tokens[0] != "(" {
		n, err := strconv.ParseInt(tokens[0], 10, 64)
		if err != nil {
			return -1, tokens
		}
		return n, tokens[1:]
	}
	value, rest := sumOf(tokens[1:])
	return value, rest[1:] // the parenthesis
}
