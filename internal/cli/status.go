package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/serve"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// watchEvery is the pause between two looks of status --watch.
const watchEvery = 2 * time.Second

// statusPatience bounds one look.
const statusPatience = 10 * time.Second

func newStatus(env *Env) *cobra.Command {
	asJSON, watch, file := false, false, ""
	cmd := &cobra.Command{
		Use:   "status [RUN | JOINSTRING]",
		Short: "Show how a run stands: members, speeds, who is slow and why",
		Long: `Show how a run that is under way stands: its islands with engine, device and host,
tokens and speed, the busy time of a step against the median of the island's own
kind, and who is slow and why. RUN is the folder of a run on this host; from
elsewhere a join string says whom to ask, from --join-file, MISTURA_JOIN or
MISTURA_JOIN_FILE. Of a run that is over its folder tells how it ended.`,
		Example: `  mistura status runs/ling-nano-1
  mistura status --join-file rack2.join --watch`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f := joinFlags{file: file}
			join, err := whom(env, cmd, args, &f)
			if err != nil {
				return err
			}
			return afterwards(env, args, asJSON, showStatus(env, join, asJSON, watch))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object on one line, with --watch one a look")
	cmd.Flags().BoolVar(&watch, "watch", false, "look again every two seconds until interrupted")
	cmd.Flags().StringVar(&file, "join-file", "", joinFileUsage)
	return cmd
}

// whom finds the coordinator to ask: of a folder, or by a join string.
func whom(env *Env, cmd *cobra.Command, args []string, f *joinFlags) (wire.Join, error) {
	given, rest, err := splitJoin(cmd, args)
	if err != nil {
		return wire.Join{}, err
	}
	if len(rest) > 0 {
		return wire.Join{}, usage("command line", rest[0], "is not expected", "see "+cmd.CommandPath()+" --help")
	}
	if info, err := os.Stat(given); given != "" && err == nil && info.IsDir() {
		return serve.Ask(given)
	}
	if given != "" && !strings.Contains(given, "://") {
		return wire.Join{}, usage("RUN", given, "is neither the folder of a run nor a join string", "give the folder of a run that is under way")
	}
	text, err := f.text(env, given)
	if err != nil {
		return wire.Join{}, err
	}
	return wire.ParseJoin(text)
}

// showStatus asks once, or until interrupted.
func showStatus(env *Env, join wire.Join, asJSON, watch bool) error {
	calls, err := transport.Call(join)
	if err != nil {
		return err
	}
	defer calls.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer env.onSignals(cancel, func() {})()
	for {
		if err := env.look(ctx, calls, asJSON); err != nil {
			if watch && ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !watch {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
		if !asJSON {
			fmt.Fprintln(env.Stdout)
		}
	}
}

func (env *Env) look(ctx context.Context, calls *transport.Calls, asJSON bool) error {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	text, err := calls.Status(ctx)
	if err != nil {
		return notShown(err)
	}
	var f ledger.Fleet
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("the coordinator's answer cannot be read: %w", err)
	}
	if asJSON {
		_, err = fmt.Fprintf(env.Stdout, "%s\n", text)
		return err
	}
	columns := 0
	if size := env.screen(env.Stdout).Size; size != nil {
		columns, _ = size()
	}
	_, err = io.WriteString(env.Stdout, showFleet(f, columns))
	return err
}

// notShown is why a run cannot be looked at: of a join string that is of another run, or good no
// more, that is the user's to mend.
func notShown(err error) error {
	if !errors.Is(err, transport.ErrRefused) {
		return err
	}
	return usage("status", "", strings.TrimPrefix(err.Error(), "status: "), "")
}
