package serve

import "context"

func (op *opened) awaitSeed(ctx context.Context, o Options) error { return nil }
