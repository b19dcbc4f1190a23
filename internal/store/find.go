package store

import (
	"context"
	"path/filepath"
	"strconv"
)

// CheckpointAt gives the checkpoint that a user means by a local folder: that of
// the folder, or the newest whole one of the run in it. Incomplete are newer ones of
// the run that are not whole.
func CheckpointAt(ctx context.Context, dir string) (Checkpoint, []Incomplete, error) {
	if run, number, ok := asCheckpoint(dir); ok {
		st, err := OpenFolder(run)
		if err != nil {
			return Checkpoint{}, nil, err
		}
		c, err := Load(ctx, st, number)
		return c, nil, err
	}
	st, err := OpenFolder(dir)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	return Newest(ctx, st)
}

// asCheckpoint takes a path apart that ends in checkpoints/NUMBER.
func asCheckpoint(dir string) (run string, number uint64, ok bool) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", 0, false
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	parent := filepath.Dir(path)
	number, err = strconv.ParseUint(filepath.Base(path), 10, 64)
	return filepath.Dir(parent), number, err == nil && filepath.Base(parent)+"/" == checkpointsPrefix
}
