package corpus

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// job is a piece of work that may run beside others.
type job[T any] func() (T, error)

// task is a job on its way: done is closed when result and err are set.
type task[T any] struct {
	job    job[T]
	result T
	err    error
	done   chan struct{}
}

// inOrder runs the jobs that produce emits on several workers and hands the results
// to consume, which runs in one goroutine, in the order of emission. At most three
// jobs a worker are under way, which bounds the memory. The first error, of any
// side, stops everything and is returned.
func inOrder[T any](ctx context.Context, workers int, produce func(emit func(job[T]) error) error, consume func(T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	ordered := make(chan *task[T], 2*workers)
	work := make(chan *task[T])

	group.Go(func() error {
		defer close(ordered)
		defer close(work)
		return produce(func(j job[T]) error {
			t := &task[T]{job: j, done: make(chan struct{})}
			for _, to := range []chan *task[T]{ordered, work} {
				select {
				case to <- t:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range workers {
		group.Go(func() error {
			for t := range work {
				t.result, t.err = t.job()
				close(t.done)
			}
			return nil
		})
	}
	group.Go(func() error {
		for t := range ordered {
			select {
			case <-t.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			if t.err != nil {
				return t.err
			}
			if err := consume(t.result); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}
