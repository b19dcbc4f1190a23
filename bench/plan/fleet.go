package main

import (
	"time"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/search"
)

// unlike is 4,096 chips of five kinds. Its prices are those that the Ling report gives for
// chips that these look like, and of MI300X made up: only times are measured here.
const unlike = `currency: CNY
pools:
  - {name: ascend, chip: ascend-910b2, count: 1024, prices: [{amount: 7, currency: CNY, date: 2025-03-10}]}
  - {name: a100, chip: a100-80g-sxm, count: 1024, prices: [{amount: 10, currency: CNY, date: 2025-03-10}]}
  - {name: h800, chip: h800-80g-sxm, count: 512, prices: [{amount: 27.5, currency: CNY, date: 2025-03-10}]}
  - {name: h20, chip: h20, count: 1024, prices: [{amount: 5.64, currency: CNY, date: 2025-03-10}]}
  - {name: mi300x, chip: mi300x, count: 512, prices: [{amount: 20, currency: CNY, date: 2026-11-29}]}
links:
  - {between: [ascend, syncers], rate: 100 Gbit/s}
  - {between: [a100, syncers], rate: 100 Gbit/s}
  - {between: [h800, syncers], rate: 100 Gbit/s}
  - {between: [h20, syncers], rate: 100 Gbit/s}
  - {between: [mi300x, syncers], rate: 100 Gbit/s}
max_islands: 8
max_period: 100M
`

// answer is the whole of it: the fleet file read, the search, front and sensitivity.
func answer(threads int) (seconds float64, a search.Answer, err error) {
	begin := time.Now()
	cfg, err := model.Preset("ling-plus")
	if err != nil {
		return 0, a, err
	}
	f, err := fleet.Parse("fleet.yaml", []byte(unlike), chip.Builtin())
	if err != nil {
		return 0, a, err
	}
	a, err = search.Run(search.Question{
		Task:   plan.Task{Model: anatomy.Of(cfg), Sequence: 4096, Batch: 4096, Format: "bf16"},
		Tokens: 1e12, Fleet: f, Deadline: 8 * 86400, Constants: plan.BuiltinConstants(), Parallel: inParallel(threads),
	})
	return time.Since(begin).Seconds(), a, err
}
