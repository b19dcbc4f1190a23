package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/huggingface"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
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
	checkpoint, err := save(ctx, d, dir)
	if err != nil {
		undo()
		return err
	}
	count := d.Config.Count()
	result := imported{Checkpoint: checkpoint, Dir: dir, Family: d.Family, Params: count.Total, ActiveParams: count.Active, Notes: d.Notes, Model: d.Config}
	if f.json {
		return printJSON(env.Stdout, result)
	}
	return env.showImported(result)
}

// save writes the checkpoint and gives its path. The folder is empty until all of it
// is there, whatever becomes of this process.
func save(ctx context.Context, d *huggingface.Folder, dir string) (path string, err error) {
	need, err := d.Bytes()
	if err != nil {
		return "", err
	}
	if err := huggingface.CheckSpace(ctx, dir, need); err != nil {
		return "", err
	}
	folder, err := store.MakeFolder(dir)
	if in := (*fault.Input)(nil); errors.As(err, &in) {
		return "", err
	}
	if err != nil {
		return "", usage("--out", dir, "cannot be written: "+reason(err), "give another folder")
	}
	defer func() { err = errors.Join(huggingface.DiskFull(dir, err), folder.Close()) }()
	st, err := store.OpenFolder(folder.Dir())
	if err != nil {
		return "", err
	}
	c, err := d.Save(ctx, st, serve.ModelPart)
	if err != nil {
		return "", err
	}
	if err := folder.Publish(); err != nil {
		return "", err
	}
	written, err := filepath.Rel(st.Location(), c.Path())
	if err != nil {
		return "", err
	}
	whole, err := filepath.Abs(dir)
	return filepath.Join(whole, written), err
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
		fmt.Fprintf(env.Stderr, "mistura: without data: %s\n", oneLine(name))
	}
	for _, name := range m.Unused {
		fmt.Fprintf(env.Stderr, "mistura: unused: %s\n", oneLine(name))
	}
}
