package cli

import "context"

// await lets something be computed that looks at no context: a signal ends the waiting,
// and soon the program with what it computes.
func (env *Env) await(compute func() error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer env.onSignals(cancel)()
	done := make(chan error, 1)
	go func() { done <- compute() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
