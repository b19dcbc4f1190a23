package cli

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/island"
	"github.com/mistura-project/mistura/internal/machine"
	"github.com/mistura-project/mistura/internal/pytorch"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// torchFlags are those of join --engine torch.
type torchFlags struct {
	pytorch.Learner
	runFile string
}

func (f *torchFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Device, "device", "cpu", "`KIND` of device for --engine torch, such as cuda, npu or musa")
	flags.StringVar(&f.Precision, "precision", "fp32", "`FORMAT` of products for --engine torch: fp32, bf16 or fp16")
	flags.IntVar(&f.Ranks, "ranks", 1, "`N` processes for --engine torch, one a device")
	flags.IntVar(&f.Threads, "threads", 0, "`N` threads of each rank of --engine torch on the CPU (default those of the machine, shared by the ranks)")
	flags.BoolVar(&f.Recompute, "activation-checkpointing", false, "--engine torch computes layers again in the backward pass, to save memory")
	flags.StringVar(&f.runFile, "run-file", "", "resolved run file of the run; who starts islands on its own machine gives it")
	flags.MarkHidden("run-file") //nolint:errcheck // the flag is there
	complete(cmd, "device", pytorch.Devices())
	complete(cmd, "precision", runfile.Precisions())
}

// trainer is the reference learner. Unless who started this process has asked already,
// PyTorch and the device are asked first: what is missing is then said in one line.
func (f *torchFlags) trainer(asked bool, log *slog.Logger) (t trainer, err error) {
	if f.Ranks < 1 {
		return t, usage("--ranks", fmt.Sprint(f.Ranks), "is below 1", "give the number of processes")
	}
	if f.Threads == 0 {
		f.Threads = max(1, machine.CPUs()/f.Ranks)
	}
	if !asked {
		log.Info("looks_for_torch", "device", f.Device, "precision", f.Precision)
		if _, err := pytorch.Probe(context.Background(), "--engine torch,", f.Learner); err != nil {
			return t, err
		}
	}
	python, err := pytorch.Python(context.Background())
	if err != nil {
		return t, err
	}
	dir, err := pytorch.Unpack("")
	if err != nil {
		return t, err
	}
	return trainer{command: f.Command(python, dir), variables: pytorch.Variables(dir), describe: f.describe}, nil
}

// maxRunBytes bounds a run file that comes from elsewhere.
const maxRunBytes = 32 << 20

// describe tells which run the trainer joins: from the file that was named, or the
// coordinator's.
func (f *torchFlags) describe(o island.Options) (*attach.Run, error) {
	text, err := os.ReadFile(f.runFile)
	if f.runFile == "" {
		text, err = fetchRun(o.Join)
	}
	if err != nil {
		return nil, err
	}
	run, err := runfile.Parse("run.yaml", text)
	if err == nil {
		run, err = run.Resolve()
	}
	if err != nil {
		return nil, err
	}
	said, err := run.JSON()
	return &attach.Run{Run: said, Island: o.Join.Island}, err
}

// fetchRun asks the coordinator for the run file.
func fetchRun(join wire.Join) ([]byte, error) {
	calls, err := transport.Call(join)
	if err != nil {
		return nil, err
	}
	defer calls.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var text bytes.Buffer
	_, err = calls.Fetch(ctx, "run.yaml", 0, maxRunBytes, &text)
	return text.Bytes(), err
}
