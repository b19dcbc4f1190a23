package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mistura-project/mistura/internal/dash"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/serve"
)

// afterwards is what there is to say when nobody answers for a run: of one whose folder was given, how it
// ended. One that finished is well; any other is not under way.
func afterwards(env *Env, args []string, asJSON bool, err error) error {
	var in *fault.Input
	if len(args) == 0 || strings.Contains(args[0], "://") || !errors.As(err, &in) || in.Where != "coordinator" {
		return err
	}
	dir := args[0]
	p, past := serve.Ended(context.Background(), dir)
	if past != nil {
		return fmt.Errorf("its coordinator at %s does not answer, and how run %s ended cannot be read: %w", in.Value, dir, past)
	}
	if asJSON {
		err = printJSON(env.Stdout, objectOf(p))
	} else {
		err = writePast(env.Stdout, p)
	}
	if err != nil || p.Summary.Outcome == ledger.RunFinished {
		return err
	}
	why := fmt.Sprintf("it was %s (%s)", p.Summary.Outcome, p.Summary.Reason)
	switch p.Summary.Outcome {
	case ledger.RunUnknown:
		why = fmt.Sprintf("its coordinator at %s does not answer, and %s", in.Value, p.Summary.Reason)
	case ledger.RunFailed:
		why = "it failed: " + p.Summary.Reason
	}
	next := "go on with it by --resume " + shellQuote(dir)
	if p.Summary.Checkpoint == nil {
		next = "nothing is saved to go on from: begin it anew"
	}
	err = usage("RUN", dir, "is not under way: "+why, next)
	if asJSON {
		return shown{err}
	}
	return err
}

// objectOf is the object that train --json ends with, or the keys of it that are known.
func objectOf(p serve.Past) any {
	s := p.Summary
	if p.Whole {
		return s
	}
	return struct {
		Tokens     int64          `json:"tokens"` // in the checkpoint
		Checkpoint *string        `json:"checkpoint"`
		Outcome    ledger.Outcome `json:"outcome"`
		Reason     string         `json:"reason"`
		RunID      string         `json:"run_id"`
		Dir        string         `json:"dir"`
		Era        uint32         `json:"era"`
		GoalTokens int64          `json:"goal_tokens"`
	}{s.Tokens, s.Checkpoint, s.Outcome, s.Reason, s.RunID, s.Dir, s.Era, s.GoalTokens}
}

// writePast shows a run that is over.
func writePast(out io.Writer, p serve.Past) error {
	s, when := p.Summary, ""
	if !p.At.IsZero() {
		when = ", over since " + p.At.UTC().Format("2006-01-02 15:04:05 MST")
	}
	_, err := fmt.Fprintf(out, "run %s, era %d%s\n", s.RunID, s.Era, when)
	if !p.Whole {
		saved := "nothing is saved"
		if s.Checkpoint != nil {
			saved = fmt.Sprintf("%s of %s tokens are in checkpoint %s", ledger.Amount(float64(s.Tokens)), ledger.Amount(float64(s.GoalTokens)), *s.Checkpoint)
		}
		_, err = fmt.Fprintf(out, "%s: %s; %s\n", s.Outcome, s.Reason, saved)
		return err
	}
	fmt.Fprint(out, dash.Report{Summary: s})
	for _, i := range s.Islands {
		if i.Gate != nil {
			_, err = fmt.Fprintf(out, "gate: island %s %s%s\n", i.Name, *i.Gate, because(i.GateReason))
		}
	}
	return err
}

// because is a reason behind what it is the reason of.
func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
