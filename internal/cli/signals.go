package cli

import "sync"

// onSignals calls the first function at the first signal, the second at the second,
// and so on. The returned function ends the listening and waits for it.
func (env *Env) onSignals(reactions ...func()) (stop func()) {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for _, react := range reactions {
			select {
			case <-env.Signals:
				react()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
