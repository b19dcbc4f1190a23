package island

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The danger: what comes slowly is given up, or what has stopped coming is waited for.
func TestAWaitLastsWhileSomethingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why, came := errors.New("nothing came"), atomic.Int64{}
		ctx, cancel := whileMoving(t.Context(), came.Load, time.Minute, why)
		defer cancel()
		for range 10 {
			time.Sleep(50 * time.Second)
			came.Add(1)
			synctest.Wait()
			if ctx.Err() != nil {
				t.Fatalf("given up after %d", came.Load())
			}
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), why) {
			t.Errorf("%v", context.Cause(ctx))
		}
	})
}
