package published

import (
	"fmt"
	"math"
	"strings"

	"github.com/mistura-project/mistura/internal/anatomy"
)

// vocabularies are those of families of models whose tables leave them out, by how the
// name begins once it has no hyphens, dots and blanks; the longest that fits is taken.
// They are the ones that the models' own configurations state, gpt's is GPT-2's 50257
// tokens as Megatron pads them for eight ranks (Narayanan et al., arXiv 2104.04473,
// section 5).
func vocabularies() map[string]int {
	return map[string]int{
		"gpt": 51200, "megatron": 51200, "turing": 51200, "mtnlg": 51200, "gptneo": 50257, "gptneox": 50432, "pythia": 50432, "gptj": 50400, "gptoss": 201088, "opt": 50272,
		"mpt": 50368, "bloom": 250880, "falcon": 65024, "llama": 32000, "llama3": 128256, "llama4": 202048, "codellama": 32016, "mistral": 32000, "mixtral": 32000,
		"qwen": 151936, "qwen257b": 151936, "deepseek": 102400, "deepseekv3": 129280, "deepseekr1": 129280, "gemma": 256000, "gemma3": 262144, "nemotron": 256000,
		"olmo": 50304, "olmo2": 100352, "grok": 131072, "kimi": 163840, "moonlight": 163840, "glm4": 151552, "chatglm": 65024, "baichuan": 64000, "baichuan2": 125696, "yi": 64000,
		"aquila": 100008, "internlm": 103168, "internlm2": 92544, "starcoder": 49152, "minimax": 200064, "skywork": 65536, "phi": 32064, "ling": 126464, "ling2": 157184,
	}
}

// plainVocab is taken where neither the table nor the name says: Llama 2's. Embedding
// and head are a small part of what is predicted.
const plainVocab = 32000

func vocabOf(model string) int {
	plain := anatomy.Family(model)
	best, found := "", plainVocab
	for prefix, n := range vocabularies() {
		if strings.HasPrefix(plain, prefix) && len(prefix) > len(best) {
			best, found = prefix, n
		}
	}
	return found
}

// mended is the run with what tables have wrong of it. Sailor's (eth-easl/sailor) have
// its simulator's word for what its trainer did. That set no 16-bit format, in an image
// that multiplies in TF32 unless told otherwise (ae_scripts, Dockerfile), and GPT-Neo has
// GPT-2's vocabulary and 20 heads (profile_all.py).
func (r Run) mended() (Run, []string) {
	if m, ok := table1()[r.ID]; ok {
		r.MicroBatch, r.VPP = Count{m[0], true}, Count{m[1], true}
		return r, []string{fmt.Sprintf("micro-batch %d and %d virtual stages, as the script of its table has them", m[0], m[1])}
	}
	if !strings.Contains(r.Source, "eth-easl/sailor") || r.Dtype != "FP16" {
		return r, nil
	}
	r.Dtype = "TF32"
	mended := []string{"TF32, as its scripts have it"}
	if simulated := (Count{128256, true}); strings.HasPrefix(r.Model, "gpt-neo") && r.Vocab == simulated {
		r.Vocab.Value, r.Heads.Value, r.KVHeads = 50257, 20, Count{}
		mended = append(mended, "vocab 50257 and 20 heads, as its trainer has it")
	}
	return r, mended
}

// table1 has the micro-batches and virtual stages of Narayanan et al., table 1, which only
// their script states (Megatron-LM, examples/sc21/run_table_1.sh).
func table1() map[string][2]int {
	return map[string][2]int{
		"mlm-sc21-1.7b": {16, 1}, "mlm-sc21-3.6b": {16, 1}, "mlm-sc21-7.5b": {16, 1}, "mlm-sc21-18.4b": {8, 1}, "mlm-sc21-39.1b": {4, 1}, "mlm-sc21-76.1b": {2, 3},
		"mlm-sc21-145.6b": {2, 2}, "mlm-sc21-310.1b": {1, 2}, "mlm-sc21-529.6b": {1, 3}, "mlm-sc21-1008.0b": {1, 1},
	}
}

// assume notes what the source leaves out and is taken for granted.
func (c *Case) assume(format string, of ...any) {
	c.Assumed = append(c.Assumed, fmt.Sprintf(format, of...))
}

// sizes fills in what a comparison can do without: the vocabulary, and, where the
// parameters are stated, the width of the MLP or how many experts a token uses.
func (c *Case) sizes(s *anatomy.Shape) {
	r := c.Run
	if !r.Vocab.Known {
		s.Vocab = vocabOf(r.Model)
		c.assume("vocab %d", s.Vocab)
	}
	if s.Experts > 0 && s.ExpertFFN == 0 && s.FFN > 0 {
		s.ExpertFFN = s.FFN
		c.assume("moe_ffn %d, as ffn", s.ExpertFFN)
	}
	defer c.doubt(s)
	switch {
	case s.Experts == 0 && s.FFN == 0 && r.ParamsB.Known:
		s.FFN = widthOf(*s, r.ParamsB.Value*1e9)
		c.assume("ffn %d, by params_b", s.FFN)
	case s.Experts > 0 && s.TopK == 0 && r.ActiveB.Known:
		s.TopK = choiceOf(*s, r.ActiveB.Value*1e9)
		c.assume("topk %d, by active_b", s.TopK)
	}
}

// farOff is how far stated parameters, which are rounded, may be from those of the
// sizes before these are doubted.
const farOff = 0.03

// doubt settles what neither table nor family says right of a model whose sizes do not
// come to the stated parameters: whether embedding and head are one matrix, in which models of a family
// differ with their size, and whether MLPs have a gate, which nobody says of models without a family.
func (c *Case) doubt(s *anatomy.Shape) {
	stated := c.Run.ParamsB
	usual, err := s.Decoder()
	if err != nil || !stated.Known {
		return
	}
	off := func(s anatomy.Shape) float64 {
		d, err := s.Decoder()
		if err != nil {
			return math.Inf(1)
		}
		return math.Abs(float64(d.Parameters().Total())/(stated.Value*1e9) - 1)
	}
	tied, plain := *s, *s
	if other := !usual.Tied; s.Tied == nil {
		tied.Tied = &other
	}
	if gate := false; s.Experts == 0 {
		plain.Gated = &gate
	}
	switch least := min(off(tied), off(plain)); {
	case off(*s) <= farOff || least > farOff:
	case off(tied) == least:
		*s = tied
		c.assume("tied %v, by params_b", *s.Tied)
	default:
		*s = plain
		c.assume("MLPs without gate, by params_b")
	}
}

// widthOf is the width of the MLPs with which a dense model has so many parameters, in
// steps of 256; 0 if there is none.
func widthOf(s anatomy.Shape, params float64) int {
	const step = 256
	count := func(ffn int) float64 {
		s.FFN = ffn
		d, err := s.Decoder()
		if err != nil {
			return math.NaN()
		}
		return float64(d.Parameters().Total())
	}
	one, two := count(step), count(2*step)
	if n := math.Round(1 + (params-one)/(two-one)); n >= 1 && n*step <= 16*float64(s.Hidden) {
		return int(n) * step
	}
	return 0
}

// choiceOf is how many experts a token uses when so many parameters are active; 0 if
// no number fits.
func choiceOf(s anatomy.Shape, active float64) int {
	best, off := 0, math.Inf(1)
	for k := 1; k <= min(s.Experts, 64); k++ {
		s.TopK = k
		d, err := s.Decoder()
		if err != nil {
			return 0
		}
		if miss := math.Abs(float64(d.Parameters().Active())/active - 1); miss < off {
			best, off = k, miss
		}
	}
	return best
}
