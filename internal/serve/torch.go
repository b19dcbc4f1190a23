package serve

import (
	"context"
	"path/filepath"
	"strconv"

	"github.com/mistura-project/mistura/internal/footprint"
	"github.com/mistura-project/mistura/internal/pytorch"
	"github.com/mistura-project/mistura/internal/runfile"
)

// torchLearner is what a torch island of the run computes on. Its ranks share the
// threads that a native island would have.
func torchLearner(run runfile.Run, i runfile.Island) pytorch.Learner {
	ranks := max(1, i.Ranks)
	return pytorch.Learner{Device: i.Device, Precision: i.Precision, Recompute: i.Recompute, Ranks: ranks, Threads: max(1, footprint.Threads(run, i)/ranks)}
}

// checkTorch refuses torch islands that this machine cannot run, before anything is
// started. Islands that are alike are asked about once.
func checkTorch(ctx context.Context, run runfile.Run) error {
	asked := map[pytorch.Learner]bool{}
	for _, i := range run.Islands {
		l := torchLearner(run, i)
		if i.Engine != runfile.Torch || asked[l] {
			continue
		}
		asked[l] = true
		if _, err := pytorch.Probe(ctx, "island "+i.Name, l); err != nil {
			return err
		}
	}
	return nil
}

// torchArgs are what an island process is told beside its join string to run the
// reference learner. It is on this machine, and finds the run file in the run folder.
func torchArgs(dir string, run runfile.Run, i runfile.Island) []string {
	l := torchLearner(run, i)
	return append(learnerArgs(i), "--threads", strconv.Itoa(l.Threads), "--run-file", filepath.Join(dir, runFileName))
}

// learnerArgs say on what the reference learner of an island computes, whoever starts it.
func learnerArgs(i runfile.Island) []string {
	args := []string{"--engine", runfile.Torch, "--device", i.Device, "--precision", i.Precision, "--ranks", strconv.Itoa(max(1, i.Ranks))}
	if i.Recompute {
		args = append(args, "--activation-checkpointing")
	}
	return args
}
