package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/serve"
)

// tokenReport is the JSON of mistura token.
type tokenReport struct {
	Joins []string `json:"joins"` // one for each address of the coordinator
}

func newToken(env *Env) *cobra.Command {
	l, asJSON := &limitFlags{}, false
	cmd := &cobra.Command{
		Use:   "token RUN",
		Short: "Print a join string of a run that others serve",
		Long: `Print a join string for the run in folder RUN, limited as the flags say. It needs
the folder's key (authority/authority.pem), which only its owner can read, and the
address at which the run is served, or was served last.`,
		Example: "  mistura token runs/ling-nano-1 --expires 24h --uses 3 --name rack2",
		Args:    oneArg("RUN"),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := l.token("", time.Now())
			if err != nil {
				return err
			}
			joins, err := serve.Joins(args[0], t)
			if err != nil {
				return err
			}
			report := tokenReport{}
			for _, j := range joins {
				report.Joins = append(report.Joins, j.String())
			}
			if asJSON {
				return printJSON(env.Stdout, report)
			}
			_, err = fmt.Fprintln(env.Stdout, strings.Join(report.Joins, "\n"))
			return err
		},
	}
	l.add(cmd, "")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object on one line, with a string for each address of the coordinator")
	return cmd
}
