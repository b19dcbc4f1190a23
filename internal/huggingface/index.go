package huggingface

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mistura-project/mistura/internal/fault"
)

const (
	singleName = "model.safetensors"
	indexName  = "model.safetensors.index.json"
	extension  = ".safetensors"

	maxIndexBytes = 256 << 20 // a million tensors with long names
)

// index says which file holds which tensor.
type index struct {
	file map[string]string // by tensor
}

// parseIndex reads a model.safetensors.index.json. Its name stands in errors.
func parseIndex(where string, data []byte) (index, error) {
	x := index{file: map[string]string{}}
	mapped := false
	err := eachMember(data, func(key string, value json.RawMessage) error {
		switch key {
		case "weight_map":
			mapped = true
			return x.parseMap(value)
		case "metadata": // sizes, which the files themselves tell better
			return nil
		}
		return fmt.Errorf("%q is not known", key)
	})
	if err == nil && !mapped {
		err = fmt.Errorf("it has no weight_map")
	}
	if err != nil {
		return index{}, &fault.Input{Where: where, Problem: "cannot be used as an index", Next: "put the file back from a copy", Err: err}
	}
	return x, nil
}

func (x index) parseMap(data json.RawMessage) error {
	return eachMember(data, func(tensor string, value json.RawMessage) error {
		var name string
		if err := json.Unmarshal(value, &name); err != nil {
			return fmt.Errorf("%q: the file is not given as text", tensor)
		}
		// Beside the index and nowhere else: no path leads out of the folder.
		if !strings.HasSuffix(name, extension) || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\:\x00") {
			return fmt.Errorf("%q: %q is not the name of a %s file beside it", tensor, name, extension)
		}
		x.file[tensor] = name
		return nil
	})
}

// files lists the files that the index names.
func (x index) files() []string {
	names := map[string]bool{}
	for _, name := range x.file {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// marshalIndex writes the index of what was written.
func marshalIndex(shards []shard, total int64) ([]byte, error) {
	weights := map[string]string{}
	for _, s := range shards {
		for _, t := range s.tensors {
			weights[t.Name] = s.name
		}
	}
	data, err := json.MarshalIndent(map[string]any{
		"metadata":   map[string]int64{"total_size": total},
		"weight_map": weights,
	}, "", "  ")
	return append(data, '\n'), err
}

// weightFiles lists the files of weights in a folder, and the index if there is one.
func weightFiles(dir string) ([]string, *index, error) {
	single, indexed := exists(filepath.Join(dir, singleName)), exists(filepath.Join(dir, indexName))
	switch {
	case single && indexed:
		return nil, nil, &fault.Input{Where: dir, Problem: "holds both " + singleName + " and " + indexName, Next: "take away the one that is not the model"}
	case single:
		return []string{singleName}, nil, nil
	case !indexed:
		next := "give the folder of a model in safetensors format"
		if exists(filepath.Join(dir, "pytorch_model.bin")) || exists(filepath.Join(dir, "pytorch_model.bin.index.json")) {
			next = "its weights are in PyTorch's own format, which runs code when it is read; save them as safetensors first"
		}
		return nil, nil, &fault.Input{Where: dir, Problem: "holds neither " + singleName + " nor " + indexName, Next: next}
	}
	path := filepath.Join(dir, indexName)
	data, err := readSmall(path, maxIndexBytes)
	if err != nil {
		return nil, nil, err
	}
	x, err := parseIndex(path, data)
	if err != nil {
		return nil, nil, err
	}
	return x.files(), &x, nil
}
