package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Pruned is what Prune did.
type Pruned struct {
	Removed  []uint64 // numbers, lowest first
	Warnings []string // what it found amiss and passed over
}

// Prune keeps the newest keep whole checkpoints (at least one) and deletes older
// ones, whole or not, and what is left of saves between them that never ended. A
// checkpoint of which somebody may still read a part (inUse), and a save in flight, which has no manifest and a higher number than the newest whole
// checkpoint, stays. If no checkpoint is whole nothing is deleted.
//
// Users delete checkpoints by hand; what is gone already is a warning. Files that
// killed writers left among the checkpoints are swept.
func Prune(ctx context.Context, st Store, keep int, inUse ...uint64) (Pruned, error) {
	all, err := listCheckpoints(ctx, st)
	if err != nil {
		return Pruned{}, err
	}
	var result Pruned
	kept := 0
	var doomed []uint64
	for _, number := range slices.Backward(slices.Sorted(maps.Keys(all))) {
		state, err := inspect(ctx, st, number, all[number])
		if err != nil {
			return Pruned{}, err
		}
		switch {
		case kept >= max(1, keep) && slices.Contains(inUse, number):
		case kept >= max(1, keep):
			doomed = append(doomed, number)
		case state == nil:
			kept++
		case all[number].hasManifest():
			result.Warnings = append(result.Warnings, Incomplete{number, state.reason}.String()+"; it is left as it is")
		case kept > 0:
			doomed = append(doomed, number)
		}
	}
	for _, number := range slices.Backward(doomed) {
		warnings, err := remove(ctx, st, number, all[number])
		result.Warnings = append(result.Warnings, warnings...)
		if err != nil {
			return result, fmt.Errorf("prune checkpoint %d: %w", number, err)
		}
		result.Removed = append(result.Removed, number)
	}
	if sweeper, ok := st.(Sweeper); ok {
		if _, err := sweeper.Sweep(ctx, checkpointsPrefix); err != nil {
			result.Warnings = append(result.Warnings, err.Error())
		}
	}
	return result, nil
}

func (l listing) hasManifest() bool {
	_, ok := l[manifestName]
	return ok
}

// inspect tells why a checkpoint is not whole, nil if it is.
func inspect(ctx context.Context, st Store, number uint64, stored listing) (*unusableError, error) {
	_, err := load(ctx, st, number, stored)
	var unusable *unusableError
	if errors.As(err, &unusable) {
		return unusable, nil
	}
	return nil, err
}

// remove deletes a checkpoint, its manifest first: from then on nobody takes it for
// whole.
func remove(ctx context.Context, st Store, number uint64, stored listing) (warnings []string, err error) {
	parts := slices.SortedFunc(maps.Keys(stored), func(a, b string) int {
		if (a == manifestName) != (b == manifestName) {
			if a == manifestName {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	for _, part := range parts {
		err := st.Delete(ctx, PartName(number, part))
		if errors.Is(err, ErrNotFound) {
			warnings = append(warnings, fmt.Sprintf("checkpoint %d: %s was gone already", number, part))
			continue
		}
		if err != nil {
			return warnings, err
		}
	}
	return warnings, nil
}
