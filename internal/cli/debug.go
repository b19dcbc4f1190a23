package cli

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/engine"
)

// newDebug holds verbs for those who check this program against others.
func newDebug(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "debug",
		Short:   "Look inside, for checks against other programs",
		Long:    "Look inside, for checks against other programs. What these verbs write may change at any time.",
		Example: "  mistura debug logits --from runs/ling-nano-1 --tokens 102,117,110,99",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDebugLogits(env))
	return cmd
}

// insight is the JSON object of debug logits.
type insight struct {
	Checkpoint string      `json:"checkpoint"`
	KernelSet  string      `json:"kernel_set"`
	Logits     [][]float32 `json:"logits"` // [tokens][vocabulary], token by token as sample goes
	Loss       *float64    `json:"loss"`   // nats per token of the tokens behind the first, in one pass as train goes; null: a single token
}

func newDebugLogits(env *Env) *cobra.Command {
	var from, tokens string
	cmd := &cobra.Command{
		Use:   "logits --from DIR --tokens N,N,…",
		Short: "Write what a model makes of tokens",
		Long: `Write the logits behind each of the given tokens and the mean loss, as one JSON
object on one line.`,
		Example: "  mistura debug logits --from runs/ling-nano-1 --tokens 102,117,110,99",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return runDebugLogits(env, from, tokens)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "run or checkpoint folder `DIR`")
	cmd.Flags().StringVar(&tokens, "tokens", "", "`LIST` of token numbers")
	return cmd
}

func runDebugLogits(env *Env, from, list string) error {
	if from == "" {
		return usage("--from", "", "is missing", "give the folder of a run or of a checkpoint")
	}
	var tokens []int32
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(field), 10, 32)
		if err != nil {
			return usage("--tokens", list, "is no list of token numbers", "write 102,117,110")
		}
		tokens = append(tokens, int32(n))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer env.onSignals(cancel)()
	m, err := openModel(ctx, env, from)
	if err != nil {
		return err
	}
	defer m.engine.Close()
	seen := insight{Checkpoint: m.path, KernelSet: m.engine.KernelSet()}
	if err := m.engine.Logits(ctx, tokens, func(logits []float32) error {
		seen.Logits = append(seen.Logits, slices.Clone(logits))
		return nil
	}); err != nil {
		return err
	}
	if len(tokens) > 1 {
		sum, n, err := m.engine.Loss(engine.Batch{Tokens: tokens, Rows: 1})
		if err != nil {
			return err
		}
		loss := sum / float64(n)
		seen.Loss = &loss
	}
	return printJSON(env.Stdout, seen)
}
