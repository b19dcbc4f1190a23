package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/huggingface"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
)

type importFlags struct {
	out  string
	json bool
}

// imported is the JSON object of import.
type imported struct {
	Checkpoint   string       `json:"checkpoint"`
	Dir          string       `json:"dir"`
	Family       string       `json:"family"`
	Params       int64        `json:"params"`
	ActiveParams int64        `json:"active_params"`
	Notes        []string     `json:"notes"` // casts, padding that was cut off, files that were not read
	Model        model.Config `json:"model"`
}

func newImport(env *Env) *cobra.Command {
	f := &importFlags{}
	cmd := &cobra.Command{
		Use:   "import HF_DIR",
		Short: "Take in a Hugging Face model",
		Long: `Take in a model in the Hugging Face format: config.json and weights in
safetensors files, of the families bailing_moe, bailing_moe_v2 and qwen3_moe.

The result is a folder with one checkpoint, which train and sample take by --from.
Every tensor of the model and of the files is accounted for, and a field of
config.json that the engine does not compute is refused by its name;
docs/formats/huggingface.md has the details. The tokenizer stays behind.`,
		Example: `  mistura import downloads/Ling-lite
  mistura import downloads/Qwen3-30B-A3B --out models/qwen3`,
		Args: oneFolder("HF_DIR", "give the folder of a Hugging Face model"),
		RunE: func(_ *cobra.Command, args []string) error { return runImport(env, args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", "", "new folder `DIR` (default the next free runs/NAME-N)")
	flags.BoolVar(&f.json, "json", false, "write one JSON object on one line in place of the text")
	return cmd
}

// oneFolder demands exactly one argument.
func oneFolder(name, next string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 || args[0] == "":
			return usage(name, "", "is missing", next)
		case len(args) > 1:
			return usage("command line", args[1], "is one folder too many", next)
		}
		return nil
	}
}

func runImport(env *Env, from string, f *importFlags) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer env.onSignals(cancel)()
	d, err := huggingface.Open(ctx, from)
	if err != nil {
		env.listMismatch(err)
		return err
	}
	defer d.Close()
	dir, undo, err := claim(runfile.Run{Name: d.Config.Name, Out: f.out}.FromFlag("out", "--out"))
	if err != nil {
		return err
	}
	c, err := save(ctx, d, dir)
	if err != nil {
		removeEmpty(dir)
		undo()
		return err
	}
	count := d.Config.Count()
	result := imported{Checkpoint: c.Path(), Dir: dir, Family: d.Family, Params: count.Total, ActiveParams: count.Active, Notes: d.Notes, Model: d.Config}
	if f.json {
		return printJSON(env.Stdout, result)
	}
	return env.showImported(result)
}

func save(ctx context.Context, d *huggingface.Folder, dir string) (store.Checkpoint, error) {
	st, err := store.OpenFolder(dir)
	if err != nil {
		return store.Checkpoint{}, err
	}
	return d.Save(ctx, st, modelPart)
}

// removeEmpty removes the empty folders in dir: of a checkpoint that came to nothing.
func removeEmpty(dir string) {
	var folders []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && path != dir {
			folders = append(folders, path)
		}
		return err
	})
	if err != nil {
		return // what is there is not ours to judge
	}
	for _, folder := range slices.Backward(folders) { // inner ones first
		os.Remove(folder) //nolint:errcheck // stays unless empty
	}
}

func (env *Env) showImported(r imported) error {
	fmt.Fprintf(env.Stdout, "%s: %s parameters, %s of them active\n", r.Family, ledger.Amount(float64(r.Params)), ledger.Amount(float64(r.ActiveParams)))
	for _, note := range r.Notes {
		fmt.Fprintf(env.Stdout, "%s\n", oneLine(note))
	}
	_, err := fmt.Fprintf(env.Stdout, "saved %s\ntrain on:  %s train --from %s\n", r.Checkpoint, env.self(), shellQuote(r.Dir))
	return err
}

// listMismatch writes out the names that an error of many names leaves out.
func (env *Env) listMismatch(err error) {
	var m *huggingface.Mismatch
	if !errors.As(err, &m) || !m.Long() {
		return
	}
	for _, name := range m.Missing {
		fmt.Fprintf(env.Stderr, "mistura: without data: %s\n", name)
	}
	for _, name := range m.Unused {
		fmt.Fprintf(env.Stderr, "mistura: unused: %s\n", name)
	}
}
