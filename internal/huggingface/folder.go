package huggingface

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
)

// Folder is an open folder of a model: what it says, and where each tensor of the
// model lies in its files.
type Folder struct {
	Description
	// Notes tell a user what is done on the way, one line each: kinds of casts,
	// padding that is cut off, files that are not read.
	Notes []string
	// Casts are the notes about casts alone.
	Casts []string

	dir   string
	files []*store.TensorFile
	held  map[string]held   // by name in the files
	lies  map[string]source // by name in the model
}

// held is a tensor in a file.
type held struct {
	file *store.TensorFile
	name string // of the file
	info store.TensorInfo
}

// source is where a tensor of the model lies.
type source struct {
	tensor string // in the files
	first  int    // element of it
}

// Open opens a folder with config.json and weights and accounts for every tensor.
// Nothing but headers is read, and what must be known to be of no account. Errors
// are *fault.Input; where tensors do not fit they wrap a *Mismatch.
func Open(ctx context.Context, dir string) (*Folder, error) {
	description, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	d := &Folder{Description: description, dir: dir, held: map[string]held{}, lies: map[string]source{}}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close closes the files.
func (d *Folder) Close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func (d *Folder) open(ctx context.Context) error {
	names, x, err := weightFiles(d.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.openFile(name, x); err != nil {
			return err
		}
	}
	if x != nil {
		if err := d.compareIndex(*x); err != nil {
			return err
		}
	}
	fam, err := familyNamed(d.dir, d.Family)
	if err != nil {
		return err
	}
	if err := d.match(ctx, fam); err != nil {
		return err
	}
	d.noteCasts()
	return d.noteUnread(names)
}

func (d *Folder) openFile(name string, x *index) error {
	path := filepath.Join(d.dir, name)
	if !exists(path) {
		missing := &fault.Input{Where: path, Problem: "this file of the model is missing", Next: "fetch it again"}
		if x != nil {
			missing.Problem += ", and " + indexName + " names it"
		}
		return missing
	}
	f, err := store.OpenTensorFile(path)
	if err != nil {
		return err
	}
	d.files = append(d.files, f)
	for _, info := range f.Tensors() {
		if other, twice := d.held[info.Name]; twice {
			return &fault.Input{Where: path, Value: info.Name, Problem: "this tensor stands in " + other.name + " too", Next: "keep one of the two"}
		}
		d.held[info.Name] = held{file: f, name: name, info: info}
	}
	return nil
}

// compareIndex demands that index and files say the same.
func (d *Folder) compareIndex(x index) error {
	where := filepath.Join(d.dir, indexName)
	for _, tensor := range sortedKeys(x.file) {
		if h, ok := d.held[tensor]; !ok || h.name != x.file[tensor] {
			return &fault.Input{Where: where, Value: tensor, Problem: "names " + x.file[tensor] + " for this tensor, which is not in it", Next: "fetch the index and the files again"}
		}
	}
	for _, tensor := range sortedKeys(d.held) {
		if _, ok := x.file[tensor]; !ok {
			return &fault.Input{Where: where, Value: tensor, Problem: "does not name this tensor, which is in " + d.held[tensor].name, Next: "fetch the index and the files again"}
		}
	}
	return nil
}

// Tensors gives the model's tensors in its order, as float32, each read while it is
// written.
func (d *Folder) Tensors() []store.Stream {
	var out []store.Stream
	for _, t := range d.Config.Tensors() {
		out = append(out, d.stream(t))
	}
	return out
}

// noteCasts tells which types become float32.
func (d *Folder) noteCasts() {
	tensors, elements := map[string]int{}, map[string]int64{}
	used := map[string]bool{}
	for _, s := range d.lies {
		if used[s.tensor] {
			continue
		}
		used[s.tensor] = true
		info := d.held[s.tensor].info
		n := int64(1)
		for _, extent := range info.Shape {
			n *= int64(extent)
		}
		tensors[info.Dtype]++
		elements[info.Dtype] += n
	}
	for _, dtype := range sortedKeys(tensors) {
		if dtype != typeF32 {
			d.Casts = append(d.Casts, fmt.Sprintf("cast %s to F32: %d tensors, %d elements; no value changes", dtype, tensors[dtype], elements[dtype]))
		}
	}
	d.Notes = append(d.Notes, d.Casts...)
	said := map[string]string{"bfloat16": typeBF16, "float16": typeF16, "float32": typeF32}[d.Dtype]
	if said != "" && tensors[said] == 0 {
		d.Notes = append(d.Notes, fmt.Sprintf("config.json says %s, the files hold %s", d.Dtype, strings.Join(sortedKeys(tensors), ", ")))
	}
}

// noteUnread names the files that are left aside, such as a tokenizer's.
func (d *Folder) noteUnread(read []string) error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return &fault.Input{Where: d.dir, Problem: "cannot be read", Next: "give the folder of a model", Err: systemReason(err)}
	}
	read = append(slices.Clone(read), configName, indexName)
	var aside []string
	for _, e := range entries {
		if !slices.Contains(read, e.Name()) {
			aside = append(aside, e.Name())
		}
	}
	if len(aside) > 0 {
		d.Notes = append(d.Notes, "not read: "+strings.Join(aside, ", "))
	}
	return nil
}

// Origin is what an export later needs to give back what import has read.
func (d *Folder) Origin() Origin {
	return Origin{Family: d.Family, Dtype: d.Dtype, Casts: d.Casts, Carried: d.Carried, Positions: d.Positions}
}

// stream reads one tensor of the model while it is written.
func (d *Folder) stream(t model.Tensor) store.Stream {
	return store.Stream{Name: t.Name, Dtype: typeF32, Shape: t.Shape, Write: d.reader(t)}
}
