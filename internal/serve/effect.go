package serve

import (
	"fmt"
	"strings"

	"github.com/mistura-project/mistura/internal/runfile"
)

// withoutEffect tells of settings of a run that change nothing, a line for each.
func withoutEffect(run runfile.Run) []string {
	var out []string
	if c := run.Model.Config; c.BiasRate > 0 && !c.RouterBias {
		out = append(out, fmt.Sprintf("warning: %s is %g without effect: the router has no bias (model.router_bias)", run.Where("model.bias_rate"), c.BiasRate))
	}
	for i, island := range run.Islands {
		if island.Evaluate && measurable(run) {
			out = append(out, fmt.Sprintf("warning: %s is without effect: the run measures the validation loss of this model itself, on its held-out text",
				run.Where(fmt.Sprintf("islands.%d.evaluate", i))))
		}
	}
	return out
}

// startedElsewhere tells, where no island is started here, how those are started for which
// the run file says more than a name. Who joins decides: the file is for mistura train.
func startedElsewhere(o Options, run runfile.Run) []string {
	if !o.Outside {
		return nil
	}
	var out []string
	for _, i := range run.Islands {
		if i.Engine == runfile.Torch {
			out = append(out, fmt.Sprintf("island %s is not started here; on its own host: mistura join --name %s %s", i.Name, i.Name, strings.Join(learnerArgs(i), " ")))
		}
	}
	return out
}
