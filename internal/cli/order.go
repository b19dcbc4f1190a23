package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/huggingface"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
)

// newRun is the run that file and flags ask for, resolved. One that starts no islands takes,
// without a list of them, whoever joins.
func newRun(env *Env, cmd *cobra.Command, args []string, f *trainFlags, o *serve.Options) (runfile.Run, error) {
	file, data, err := splitArgs(args, f.data)
	if err != nil {
		return runfile.Run{}, err
	}
	if file == "" && len(args) > 0 && args[0] == "" { // such as a variable that is not set
		return runfile.Run{}, usage("run file", "", "has an empty name", "give a run file, or none for the built-in run")
	}
	r := runfile.Default()
	if file != "" {
		if r, err = readRun(file); err != nil {
			return r, err
		}
	}
	if o.Outside && !slices.Contains(r.Sections(), "islands") {
		r.Islands = nil
	}
	if r, err = override(r, cmd.Flags(), f, data); err != nil {
		return r, err
	}
	if cmd.Flags().Changed("from") {
		if r, err = startFrom(env, r, f); err != nil {
			return r, err
		}
	}
	if r.Model.From != "" && r.Model.From != runfile.FromSeed {
		if r.Model.From, err = filepath.Abs(r.Model.From); err != nil {
			return r, fmt.Errorf("finding %s: %w", r.Model.From, err)
		}
	}
	for i, path := range r.Data.Paths {
		if r.Data.Paths[i], err = filepath.Abs(path); err != nil {
			return r, fmt.Errorf("finding %s: %w", path, err)
		}
	}
	return withJoiners(r, o).Resolve()
}

// withJoiners is the run with what it must know of islands that join those it starts.
func withJoiners(r runfile.Run, o *serve.Options) runfile.Run {
	if o.Outside || o.Listen == "" {
		return r
	}
	return r.WithOthers()
}

// splitArgs finds the run file among the arguments. A shell that expands
// "--data docs/*" leaves all but the first path as arguments: with --data, those
// that are no YAML files count as data.
func splitArgs(args, data []string) (file string, paths []string, err error) {
	paths = append(paths, data...)
	for _, arg := range args {
		ext := strings.ToLower(filepath.Ext(arg))
		switch yaml := ext == ".yaml" || ext == ".yml"; {
		case file == "" && (yaml || len(data) == 0):
			file = arg
		case len(data) > 0 && !yaml:
			paths = append(paths, arg)
		default:
			return "", nil, usage("command line", arg, "is one run file too many", "give one RUN.yaml; text to train on follows --data")
		}
	}
	return file, paths, nil
}

func readRun(file string) (runfile.Run, error) {
	data, err := readWritten(file)
	if errors.Is(err, fs.ErrNotExist) {
		return runfile.Run{}, usage("run file", file, "does not exist", "give a run file, or none for the built-in run")
	}
	if err != nil {
		return runfile.Run{}, &fault.Input{Where: "run file", Value: file, Problem: "cannot be read: " + reason(err), Next: "give a readable file"}
	}
	return runfile.Parse(file, data)
}

// override lays the flags that were given over a run.
func override(r runfile.Run, flags *pflag.FlagSet, f *trainFlags, data []string) (runfile.Run, error) {
	var err error
	if flags.Changed("model") {
		if r, err = withModel(r, f.model); err != nil {
			return r, err
		}
	}
	if flags.Changed("data") {
		r = r.FromFlag("data.paths", "--data")
		r.Data.Paths = data
	}
	if flags.Changed("tokens") {
		r = r.FromFlag("tokens", "--tokens")
		r.Tokens = f.tokens.n
	}
	if flags.Changed("islands") {
		r = r.FromFlag("islands", "--islands")
		r.Islands = f.islands.apply(r.Islands)
	}
	if flags.Changed("out") {
		r = r.FromFlag("out", "--out")
		r.Out = f.out
	}
	if flags.Changed("seed") {
		r = r.FromFlag("seed", "--seed")
		r.Seed = f.seed
	}
	return r, nil
}

// withModel takes the model of a flag: a preset, or a config.json or its folder.
func withModel(r runfile.Run, name string) (runfile.Run, error) {
	if slices.Contains(model.PresetNames(), name) {
		return r.FromFlag("model.preset", "--model").WithModel(name)
	}
	if _, err := os.Stat(name); err != nil && strings.ContainsAny(name, "/\\.") {
		return r, usage("--model", name, "cannot be read: "+reason(err), "give the path of a Hugging Face config.json, or one of "+strings.Join(model.PresetNames(), ", "))
	} else if err != nil {
		return r, usage("--model", name, "no such preset", "choose one of "+strings.Join(model.PresetNames(), ", ")+", or give the path of a Hugging Face config.json")
	}
	d, err := huggingface.ReadConfig(name)
	if err != nil {
		return r, err
	}
	return r.FromFlag("model", "--model").FromFlag("model.preset", "--model").WithConfig(d.Config, ""), nil
}

// startFrom takes model and first weights from a checkpoint. Its router is past its
// warm-up.
func startFrom(env *Env, r runfile.Run, f *trainFlags) (runfile.Run, error) {
	if f.model != "" {
		return r, usage("--model", f.model, "cannot go with --from, which takes the model from the checkpoint", "leave one of them out")
	}
	c, err := findCheckpoint(context.Background(), env, f.from)
	if err != nil {
		return r, err
	}
	meta, err := metaOf(c)
	if err != nil {
		return r, err
	}
	if meta.foreign() {
		var tensors []runfile.Tensor
		for _, t := range meta.Tensors {
			tensors = append(tensors, runfile.Tensor{Name: t.Name, Shape: t.Shape, State: t.State})
		}
		r.Model.From = c.Path()
		return r.FromFlag("model.from", "--from").WithTensors(tensors), nil
	}
	meta.Model.RoutingWarmupTokens = 0
	return r.FromFlag("model.from", "--from").FromFlag("model.preset", "--from").WithConfig(meta.Model, c.Path()), nil
}

// resumedRun is the run in a folder, with the few things that may change: tokens, and
// the islands, each of which takes over the state of its name whatever it computes on.
func resumedRun(cmd *cobra.Command, args []string, f *trainFlags, o *serve.Options) (runfile.Run, error) {
	if err := onlyForResume(cmd, args); err != nil {
		return runfile.Run{}, err
	}
	if f.resume == "" {
		return runfile.Run{}, usage("--resume", "", "is empty", "give the folder of a run")
	}
	file := filepath.Join(f.resume, runFileName)
	data, err := os.ReadFile(file)
	if err != nil {
		return runfile.Run{}, usage("--resume", f.resume, "holds no run ("+runFileName+": "+reason(err)+")", "give the folder of a run, such as "+runsFolder+"/ling-nano-1")
	}
	before, err := runfile.Parse(file, data)
	if err != nil {
		return before, err
	}
	r := before
	if len(args) == 1 {
		if r.Islands, err = otherIslands(args[0]); err != nil {
			return r, err
		}
	}
	if r, err = override(r, cmd.Flags(), f, nil); err != nil {
		return r, err
	}
	r = withJoiners(r, o)
	if (len(before.Islands) == 1) != (len(r.Islands) == 1) || trainedAlone(before) && !r.Lone() {
		// What fits a lone island does not fit several, and the other way round.
		r.Exchange.OuterRate, r.Exchange.OuterMomentum, r.Exchange.Strict = nil, nil, nil
	}
	return r.Resolve()
}

// trainedAlone: its exchange is that of an island which nobody else merges with.
func trainedAlone(r runfile.Run) bool {
	x := r.Exchange
	return r.Lone() && x.OuterRate != nil && *x.OuterRate == 1 && x.OuterMomentum != nil && *x.OuterMomentum == 0
}

// otherIslands reads the islands that a run goes on with: engine, device, precision,
// ranks and pace of each may change. Whatever else a run is stays in its folder.
func otherIslands(file string) ([]runfile.Island, error) {
	r, err := readRun(file)
	if err != nil {
		return nil, err
	}
	found := false
	for _, key := range r.Sections() {
		switch key {
		case "islands":
			found = true
		case "format":
		default:
			return nil, usage(r.Where(key), "", "cannot change when a run is resumed", "leave nothing in the file but islands")
		}
	}
	if !found {
		return nil, usage("run file", file, "has no islands to go on with", "list them, or leave the file out")
	}
	return r.Islands, nil
}

// onlyForResume refuses whatever would make it another run.
func onlyForResume(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage("command line", args[1], "is one run file too many", "give one, with the islands to go on with, or none")
	}
	if len(args) == 1 && cmd.Flags().Changed("islands") {
		return usage("--islands", cmd.Flag("islands").Value.String(), "cannot go with "+args[0]+", which lists the islands", "leave one of them out")
	}
	var err error
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		switch flag.Name {
		case "resume", "islands", "tokens", "json", "listen", "token-expires", "token-uses", "token-name":
		default:
			err = usage("--"+flag.Name, flag.Value.String(), "cannot change when a run is resumed", "leave it out, or start a new run")
		}
	})
	return err
}
