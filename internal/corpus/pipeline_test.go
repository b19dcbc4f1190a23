package corpus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestResultsComeInTheOrderOfJobs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jobs := rapid.IntRange(0, 40).Draw(t, "jobs")
		workers := rapid.IntRange(1, 5).Draw(t, "workers")
		var got []int
		err := inOrder(context.Background(), workers, func(emit func(job[int]) error) error {
			for i := range jobs {
				if err := emit(func() (int, error) { return i * i, nil }); err != nil {
					return err
				}
			}
			return nil
		}, func(v int) error {
			got = append(got, v)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if v != i*i {
				t.Fatalf("results %v", got)
			}
		}
		if len(got) != jobs {
			t.Fatalf("%d results of %d jobs", len(got), jobs)
		}
	})
}

// An error of any side stops all sides, and what stood before it has been consumed.
func TestTheFirstErrorStopsThePipeline(t *testing.T) {
	fail := errors.New("fail")
	for _, where := range []string{"produce", "job", "consume"} {
		t.Run(where, func(t *testing.T) {
			var got []int
			err := inOrder(t.Context(), 2, func(emit func(job[int]) error) error {
				for i := 0; ; i++ {
					if where == "produce" && i == 100 {
						return fail
					}
					err := emit(func() (int, error) {
						if where == "job" && i == 100 {
							return 0, fail
						}
						return i, nil
					})
					if err != nil {
						return err
					}
				}
			}, func(v int) error {
				if where == "consume" && v == 100 {
					return fail
				}
				got = append(got, v)
				return nil
			})
			if !errors.Is(err, fail) {
				t.Errorf("error = %v", err)
			}
			if !slices.IsSorted(got) || where != "produce" && len(got) != 100 {
				t.Errorf("consumed %v", got)
			}
		})
	}
}

func TestThePipelineStopsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	err := inOrder(ctx, 2, func(emit func(job[int]) error) error {
		for {
			if err := emit(func() (int, error) { return 0, nil }); err != nil {
				return fmt.Errorf("emit: %w", err)
			}
		}
	}, func(int) error {
		cancel(nil)
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}
