package published

import (
	"slices"
	"strings"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
)

// What a table leaves out is taken for granted where it can be, and said.
func TestWhatIsTakenForGranted(t *testing.T) {
	const moe = "id,source,model,params_b,active_b,layers,hidden,heads,ffn,moe_ffn,experts,topk,vocab,seq,global_batch_seqs,chip_id,chips,tp,pp,dp,cp,ep,etp,dtype,measured_metric,measured_value,unit,micro_batch,vpp\n"
	for _, c := range []struct{ name, line, assumed string }{
		{"nothing", "a,s,llama2-7b,7,,32,4096,32,11008,,,,32000,4096,16,h100-80g-sxm,8,1,1,8,1,,,BF16,step_time,1,s", ""},
		{"vocabulary of the longest name", "a,s,Llama-3.1-8B,7.5,,32,4096,32,11008,,,,,4096,16,h100-80g-sxm,8,1,1,8,1,,,BF16,step_time,1,s", "vocab 128256"},
		{"of no family", "a,s,mine,7,,32,4096,32,11008,,,,,4096,16,h100-80g-sxm,8,1,1,8,1,,,BF16,step_time,1,s", "vocab 32000"},
		{"width by parameters", "a,s,llama2-7b,6.738,,32,4096,32,,,,,32000,4096,16,h100-80g-sxm,8,1,1,8,1,,,BF16,step_time,1,s", "ffn 11008, by params_b"},
		{"a chip's other name", "a,s,llama2-7b,7,,32,4096,32,11008,,,,32000,4096,16,H100-SXM5-80GB,8,1,1,8,1,,,BF16,step_time,1,s", "chip h100-80g-sxm"},
		{"cp within dp", "a,s,llama2-7b,7,,32,4096,32,11008,,,,32000,4096,16,h100-80g-sxm,8,1,1,8,2,,,BF16,step_time,1,s", "dp 4, for cp is within"},
		{"ranks of packages", "a,s,llama2-7b,7,,32,4096,32,11008,,,,32000,4096,16,ascend-910c,8,2,1,8,,,,BF16,step_time,1,s", "dp 4, for a chip has 2 ranks"},
		{"ranks of packages, one replica", "a,s,llama2-7b,7,,32,4096,32,11008,,,,32000,4096,16,ascend-910c,8,16,1,1,,,,BF16,step_time,1,s", "tp 8, for a chip has 2 ranks"},
		{"a format without units", "a,s,llama2-7b,7,,32,4096,32,11008,,,,32000,4096,16,a100-80g-sxm,8,1,1,8,1,,,FP8,step_time,1,s", "computed in bf16"},
		{"virtual stages of no pipeline", "a,s,llama2-7b,7,,32,4096,32,11008,,,,32000,4096,16,h100-80g-sxm,8,1,1,8,1,,,BF16,step_time,1,s,,4", "vpp 1, for pp is 1"},
		{"a micro-batch above the share", "a,s,llama2-7b,7,,32,4096,32,11008,,,,32000,4096,16,h100-80g-sxm,8,1,1,8,1,,,BF16,step_time,1,s,4,", "micro_batch 2, all of a replica"},
		{"whole decimals", "a,s,llama2-7b,7,,32.0,4096.0,32,11008,,,,32000,4096,16,h100-80g-sxm,8.0,1,1,8,1,,,bfloat16,step_time,1,s", ""},
		{"an expert's width and choice", "a,s,mixtral-8x7b,46.7,12.88,32,4096,32,14336,,8,,32000,4096,16,h100-80g-sxm,8,1,1,8,1,8,,BF16,step_time,1,s", "moe_ffn 14336, as ffn; topk 2, by active_b"},
		{"experts cut as all else", "a,s,mixtral-8x7b,46.7,12.88,32,4096,32,,14336,8,2,32000,4096,16,h100-80g-sxm,16,8,1,2,1,2,,BF16,step_time,1,s", "etp 8"},
		{"experts on ranks of their own", "a,s,mixtral-8x7b,46.7,12.88,32,4096,32,,14336,8,2,32000,4096,16,h100-80g-sxm,16,8,1,2,1,8,,BF16,step_time,1,s", "etp 1"},
		{"a plain MLP", "a,s,mine-22b,22.1,,48,6144,48,24576,,,,51200,2048,16,h100-80g-sxm,8,1,1,8,1,,,BF16,step_time,1,s", "MLPs without gate, by params_b"},
		{"one matrix at both ends", "a,s,llama3.2-1b,1.34,,16,2048,32,8192,,,,128256,4096,16,h100-80g-sxm,8,1,1,8,1,,,BF16,step_time,1,s", "tied true, by params_b"},
		{"expert-parallel ranks", "a,s,mixtral-8x7b,46.7,12.88,32,4096,32,,14336,8,2,32000,4096,16,h100-80g-sxm,8,2,1,4,1,,,BF16,step_time,1,s", "ep 4; etp 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs, err := Parse("mine.csv", []byte(moe+c.line+strings.Repeat(",", max(0, 28-strings.Count(c.line, ",")))+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			if !runs[0].Comparable() {
				t.Error("not comparable")
			}
			got := caseOf(t, runs[0])
			if said := strings.Join(got.Assumed, "; "); said != c.assumed {
				t.Errorf("assumed %q, want %q", said, c.assumed)
			}
			if devices, _ := got.Chip.Of(chip.Devices).Exact(); got.Layout.TP*got.Layout.PP*got.DP*got.CP != got.Chips {
				t.Errorf("%d · %d · %d · %d ranks on %d chips of %v devices", got.Layout.TP, got.Layout.PP, got.DP, got.CP, got.Chips, devices)
			}
		})
	}
}

func TestFormatsByOtherNames(t *testing.T) {
	for said, want := range map[string]string{"BF16": "bf16", "amp_bf16": "bf16", "bfloat16-mixed": "bf16", "FP8-blockwise": "fp8", "float8 + BF16": "fp8", "MXFP8": "fp8", "NVFP4": "fp4",
		"float16": "fp16", "TF32": "tf32", "FP32": "fp32", "INT4": "", "mixed": ""} {
		if got, err := (Run{Dtype: said}).format(); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", said, got, err)
		}
	}
}

// The built-in runs keep what their sources say of them.
func TestWhatIsTakenForGrantedOfBuiltinRuns(t *testing.T) {
	var said []string
	for _, c := range comparable(t, BuiltinSplit(chip.Builtin())) {
		if _, ok := table1()[c.Run.ID]; ok {
			if len(c.Assumed) != 1 || !c.MicroBatch.Known || !c.VPP.Known {
				t.Errorf("%s: %q", c.Run.ID, c.Assumed)
			}
			continue
		}
		for _, a := range c.Assumed {
			if !slices.Contains(said, a) {
				said = append(said, a)
			}
		}
	}
	slices.Sort(said)
	if got := strings.Join(said, "; "); got != "TF32, as its scripts have it; etp 1; etp 8; vocab 50257 and 20 heads, as its trainer has it; vocab 51200" {
		t.Error(got)
	}
}

// Virtual stages far beyond the layers are no layout.
func TestTooManyVirtualStages(t *testing.T) {
	header := strings.Replace(header, "tp,pp", "vpp,tp,pp", 1)
	for vpp, refused := range map[string]bool{"2": false, "3": false, "4": true, "1073741823": true} {
		runs, err := Parse("mine.csv", []byte(header+strings.Replace(line, "sxm,8,2,2,2", "sxm,8,"+vpp+",2,2,2", 1)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := runs[0].Case(chip.Builtin()); (err != nil) != refused {
			t.Errorf("vpp %s of 4 layers in 2 stages: %v", vpp, err)
		}
	}
}
