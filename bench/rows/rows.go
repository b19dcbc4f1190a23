package rows

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Read gives the rows of a file; none when it does not exist or has no name.
func Read[T any](file string) ([]T, error) {
	f, err := os.Open(file)
	if file == "" || os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []T
	for d := json.NewDecoder(f); ; {
		var r T
		err := d.Decode(&r)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, r)
	}
}

// Append writes a row behind the others; a file without a name takes none.
func Append(file string, row any) error {
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(row), f.Close())
}
