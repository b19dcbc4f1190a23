package cli

import (
	"cmp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/serve"
)

// defaultListen is every address of the host, at one port that a firewall can open.
const defaultListen = ":7070"

// limitFlags say what a join string allows.
type limitFlags struct {
	expires time.Duration
	uses    int
	name    string
}

func (l *limitFlags) add(cmd *cobra.Command, prefix string) {
	flags := cmd.Flags()
	flags.DurationVar(&l.expires, prefix+"expires", 0, "the join string is good for so long, such as 24h (default for ever)")
	flags.IntVar(&l.uses, prefix+"uses", 0, "`N` islands that it lets in, restarts included (default any number)")
	flags.StringVar(&l.name, prefix+"name", "", "the one `NAME` that it is for (default any)")
}

// token is what the flags allow from now on.
func (l *limitFlags) token(prefix string, now time.Time) (authority.Token, error) {
	switch {
	case l.expires < 0:
		return authority.Token{}, usage("--"+prefix+"expires", l.expires.String(), "is in the past", "give a time from now on, such as 24h")
	case l.uses < 0 || l.uses > authority.MaxUses:
		return authority.Token{}, usage("--"+prefix+"uses", strconv.Itoa(l.uses), "is not from 1 to 1048576", "leave it out for any number")
	case l.name != "" && !runfile.IsName(l.name):
		return authority.Token{}, usage("--"+prefix+"name", l.name, "is no name of an island", "use 1 to 64 letters, digits, dots, hyphens or underscores")
	}
	t := authority.Token{ID: authority.NewID(), Uses: l.uses, Island: l.name}
	if l.expires > 0 {
		t.Expires = now.Add(l.expires).Truncate(time.Second).Add(time.Second)
	}
	return t, nil
}

func newServe(env *Env) *cobra.Command {
	f, l := &trainFlags{}, &limitFlags{}
	cmd := &cobra.Command{
		Use:   "serve [RUN.yaml]",
		Short: "Run coordinator and syncer for islands on other hosts",
		Long: `Run the coordinator and syncer of a run on a host without islands, and print how
islands join.

A run file that lists islands takes those only; one that lists none takes whoever
has the join string. Hosts speak TLS 1.3 by the run's own authority, which is made
in the run folder. Ctrl-C saves and says how to go on; a second one stops at once.
docs/serve.md tells the rest.`,
		Example: `  mistura serve run.yaml
  mistura serve run.yaml --listen 10.0.0.5:7070 --token-expires 24h --token-uses 8
  mistura serve --resume runs/ling-nano-1`,
		ValidArgsFunction: cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt),
		RunE: func(cmd *cobra.Command, args []string) error {
			limits, err := l.token("token-", time.Now())
			if err != nil {
				return err
			}
			return runTrain(env, cmd, args, f, &serve.Options{Outside: true, Listen: f.address(cmd), Limits: limits})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.listen, "listen", defaultListen, "`HOST:PORT` that other hosts reach this one by; no host stands for every address (with --resume default where the run was)")
	l.add(cmd, "token-")
	return cmd
}

// address is where serve listens: islands that come back to a run look for it where it was.
func (f *trainFlags) address(cmd *cobra.Command) string {
	if cmd.Flags().Changed("listen") || f.resume == "" {
		return cmp.Or(f.listen, defaultListen)
	}
	return cmp.Or(serve.Listened(f.resume), defaultListen)
}
