package cli

import "github.com/spf13/cobra"

func newPlan(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "plan",
		Short:   "Predict training runs",
		Long:    "Predict training runs, and show how far predictions are off.",
		Example: "  mistura plan validate",
		Args:    noVerb,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPlanValidate(env))
	return cmd
}
