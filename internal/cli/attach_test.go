package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/launch"
)

// The danger: a trainer that does not end after the run holds its island's process for
// ever, and nobody knows why. It is waited for with words, for so long, and not when the
// user wants to end.
func TestTrainerThatDoesNotEnd(t *testing.T) {
	const long = time.Hour
	stopped, stop := context.WithCancelCause(context.Background())
	stop(errors.New("interrupted"))
	for _, c := range []struct {
		name, script   string
		ctx            context.Context
		said, patience time.Duration
		want, log      string
	}{
		{"it ends", "exit 0", context.Background(), long, long, "", ""},
		{"it ends in trouble", "exit 4", context.Background(), long, long, "ended: exit status 4", ""},
		{"it goes on", "exec sleep 1000", context.Background(), 0, 100 * time.Millisecond, "the run is over, and the trainer has not ended within 100ms: it was stopped", "waits_for_trainer"},
		{"the user ends it", "exec sleep 1000", stopped, long, long, "interrupted", ""},
	} {
		trainer, err := launch.StartTrainer([]string{"sh", "-c", c.script}, nil, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		err = awaitEnd(c.ctx, trainer, slog.New(slog.NewTextHandler(&log, nil)), c.said, c.patience)
		trainer.Stop(0)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || !strings.Contains(log.String(), c.log) {
			t.Errorf("%s: %v, log %q", c.name, err, &log)
		}
	}
}
