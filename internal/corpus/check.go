package corpus

import (
	"context"
)

// checkedBytes is the amount of text that Check reads through; more is surely long
// enough for a sequence or is found out by Build.
const checkedBytes = 4 << 20

// Check tells within a second whether the input of Build can be used: numbers, paths,
// folders without data, text that is too short. It writes nothing.
func Check(ctx context.Context, spec Spec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	files, source, err := list(ctx, spec)
	if err != nil || totalBytes(files) > checkedBytes {
		return err
	}
	var tally Tally
	var tokens int64
	err = readAll(ctx, files, spec.Strict, func(r reading) error {
		tally.add(r.tally)
		for _, d := range r.documents {
			tokens += int64(len(d.text)) + 1
		}
		return nil
	})
	if err != nil {
		return err
	}
	return enough(source, spec, tally, tokens)
}
