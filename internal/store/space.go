package store

import (
	"context"
	"fmt"
	"math"

	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
)

// PlanBytes is the space that a run needs when one save takes save bytes and keep
// of them are kept: while one is being written the others are all still there.
func PlanBytes(save int64, keep int) int64 {
	saves := int64(max(1, keep)) + 1
	if save > math.MaxInt64/saves {
		return math.MaxInt64
	}
	return saves * save
}

// CheckSpace refuses a store that has no space for the planned checkpoints, with a
// *fault.Input that gives both sizes. A store that cannot tell its free space
// passes.
func CheckSpace(ctx context.Context, st Store, save int64, keep int) error {
	free, known, err := st.FreeBytes(ctx)
	if err != nil {
		return fmt.Errorf("check space: %w", err)
	}
	there, err := st.List(ctx, checkpointsPrefix)
	if err != nil {
		return fmt.Errorf("check space: %w", err)
	}
	need := PlanBytes(save, keep)
	for _, o := range there { // of a run that goes on: it has its space already
		need = max(0, need-o.Size)
	}
	if !known || free >= need {
		return nil
	}
	return &fault.Input{
		Where: st.Location(),
		Problem: fmt.Sprintf("checkpoints need %s (%d kept and 1 being written, %s each), %s are free",
			ledger.Bytes(need), max(1, keep), ledger.Bytes(save), ledger.Bytes(free)),
		Next: "make space, keep fewer checkpoints or choose another place",
	}
}
