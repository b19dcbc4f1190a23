package validate

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/fit"
	"github.com/mistura-project/mistura/internal/published"
)

// Whatever sizes and degrees a row has, it is predicted or has a reason.
func FuzzRows(f *testing.F) {
	f.Add("llama2-7b", "h100-80g-sxm", "BF16", "full", 32, 4096, 32, 11008, 0, 0, 4096, 64, 8, 1, 1, 8, 1, 1, 1)
	f.Add("mixtral-8x7b", "ascend-910c", "FP16", "none", 32, 4096, 32, 14336, 8, 2, 4096, 256, 64, 4, 4, 8, 8, 2, 2)
	f.Add("deepseek-v3", "gb200", "MXFP8", "", 61, 7168, 128, 18432, 256, 8, 4096, 4096, 256, 1, 8, 32, 64, 1, 4)
	f.Add("gpt-39.1b", "a100-80g-sxm", "FP16", "selective", 48, 8192, 64, 32768, 0, 0, 2048, 1536, 512, 2, 8, 32, 1, 2, 1)
	catalogue := chip.Builtin()
	j := judge{chips: catalogue, split: published.BuiltinSplit(catalogue), predict: fit.Predictor(plan.BuiltinConstants())}
	f.Fuzz(func(t *testing.T, model, name, dtype, recompute string, layers, hidden, heads, ffn, experts, topk, seq, batch, chips, tp, pp, dp, ep, micro, vpp int) {
		const header = "id,source,model,layers,hidden,heads,ffn,moe_ffn,experts,topk,seq,global_batch_seqs,chip_id,chips,tp,pp,dp,ep,micro_batch,vpp,dtype,recompute,measured_metric,measured_value,unit,peak_mem_gib\n"
		row := fmt.Sprintf("a,me,%q,%d,%d,%d,%d,%d,%d,%d,%d,%d,%q,%d,%d,%d,%d,%d,%d,%d,%q,%q,step_time,1000000,s,10\n", model, layers, hidden, heads, ffn, ffn, experts, topk, seq, batch, name, chips, tp, pp, dp, ep, micro, vpp, dtype, recompute)
		runs, err := published.Parse("fuzz.csv", []byte(header+row))
		if err != nil {
			return
		}
		r := j.row(runs[0])
		if r.Skipped == "" && !r.Error.Known() {
			t.Errorf("%v", r)
		}
		if _, err := json.Marshal(Result{summaryOf([]Row{r}, false), []Row{r}}); err != nil {
			t.Error(err)
		}
	})
}
