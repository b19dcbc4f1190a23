package oracle

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
)

// results are the tensors of a file that the oracle wrote, whatever their type.
type results map[string][]float64

// readResults reads F64, F32 and I64 tensors.
func readResults(path string) (results, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(raw) < 8 || binary.LittleEndian.Uint64(raw) > uint64(len(raw)-8) {
		return nil, fmt.Errorf("%s has no header", path)
	}
	end := 8 + binary.LittleEndian.Uint64(raw)
	var header map[string]struct {
		Dtype   string `json:"dtype"`
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(raw[8:end], &header); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, all := raw[end:], make(results, len(header))
	for name, entry := range header {
		values, err := decode(entry.Dtype, data[entry.Offsets[0]:entry.Offsets[1]])
		if err != nil {
			return nil, fmt.Errorf("%s: tensor %s: %w", path, name, err)
		}
		all[name] = values
	}
	return all, nil
}

func decode(dtype string, data []byte) (values []float64, err error) {
	for len(data) > 0 {
		switch dtype {
		case "F64":
			values = append(values, math.Float64frombits(binary.LittleEndian.Uint64(data)))
			data = data[8:]
		case "I64":
			values = append(values, float64(int64(binary.LittleEndian.Uint64(data))))
			data = data[8:]
		case "F32":
			values = append(values, float64(math.Float32frombits(binary.LittleEndian.Uint32(data))))
			data = data[4:]
		default:
			return nil, fmt.Errorf("type %s", dtype)
		}
	}
	return values, nil
}

// choices are the experts of one pass, or of one step of a trace, by layer.
func (r results) choices(layers, step, steps int) [][]int32 {
	all := make([][]int32, layers)
	for l := range all {
		list := r[fmt.Sprintf("choices.%d", l)]
		n := len(list) / steps
		for _, e := range list[step*n : (step+1)*n] {
			all[l] = append(all[l], int32(e))
		}
	}
	return all
}
