package island

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The danger: what comes slowly is given up, or what has stopped coming is waited for.
func TestAWaitLastsWhileSomethingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why, came := errors.New("nothing came"), int64(0)
		ctx, cancel := whileMoving(t.Context(), func() int64 { return came }, time.Minute, why)
		defer cancel()
		for range 10 {
			time.Sleep(50 * time.Second)
			came++
			synctest.Wait()
			if ctx.Err() != nil {
				t.Fatalf("given up after %d", came)
			}
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), why) {
			t.Errorf("%v", context.Cause(ctx))
		}
	})
}
