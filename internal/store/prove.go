package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/mistura-project/mistura/internal/fault"
)

// ProveExclusive tries whether the store refuses the second of two racing
// creations. Everything that keeps two writers of one tape apart rests on that, so
// a run does not start on a store that fails here. It leaves nothing behind.
func ProveExclusive(ctx context.Context, st Store) error {
	name := "probe/" + newNonce()
	if err := proveExclusive(ctx, st, name); err != nil {
		return &fault.Input{Where: st.Location(), Problem: "cannot be used as a store", Next: "choose another place", Err: err}
	}
	return nil
}

func proveExclusive(ctx context.Context, st Store, name string) (err error) {
	defer func() {
		clean := st.Delete(context.WithoutCancel(ctx), name)
		if err == nil && clean != nil {
			err = clean
		}
	}()
	contents := [2][]byte{[]byte("first"), []byte("second")}
	var results [2]error
	var race errgroup.Group
	for i := range contents {
		race.Go(func() error {
			results[i] = st.Create(ctx, name, contents[i])
			return nil
		})
	}
	race.Wait() // the results tell
	winner, err := oneWinner(results)
	if err != nil {
		return err
	}
	if late := st.Create(ctx, name, contents[1-winner]); !errors.Is(late, ErrExists) {
		return fmt.Errorf("a name in use was created again (%v)", late)
	}
	found, err := Get(ctx, st, name, 16)
	if err != nil {
		return err
	}
	if !bytes.Equal(found, contents[winner]) {
		return fmt.Errorf("wrote %q, then read %q", contents[winner], found)
	}
	return nil
}

func oneWinner(results [2]error) (int, error) {
	for i, err := range results {
		if err != nil && !errors.Is(err, ErrExists) {
			return 0, err
		}
		if err == nil && errors.Is(results[1-i], ErrExists) {
			return i, nil
		}
	}
	if results[0] == nil {
		return 0, errors.New("two racing creations of one name both succeeded")
	}
	return 0, errors.New("two racing creations of a new name were both refused")
}
