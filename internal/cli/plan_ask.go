package cli

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	example "github.com/mistura-project/mistura/examples/plans"
	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/fleet"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/plan/search"
)

// What the example asks, where nothing else is said.
const (
	exampleModel    = "ling-plus"
	exampleTokens   = 1_000_000_000_000
	exampleDeadline = "90d"
)

// usualBatch is the tokens of a step where nobody says: what large models are trained
// with (Llama 3, arXiv 2407.21783, section 3.4.1, begins with it).
const usualBatch = 4 << 20

// ask turns the flags into a question.
func (f *planFlags) ask(p *planned) error {
	if err := f.askFleet(p); err != nil {
		return err
	}
	if err := f.askModel(p); err != nil {
		return err
	}
	if err := f.askEfficiency(p); err != nil {
		return err
	}
	q := &p.question
	q.KVCopies, q.Top, q.Objective = f.kvCopies, f.top, search.Objective(f.objective)
	if f.top < 1 || f.top > 1000 {
		return usage("--top", strconv.Itoa(f.top), "is no number of plans", "use 1 to 1000")
	}
	if q.Objective != search.Cost && q.Objective != search.Time {
		return usage("--objective", f.objective, "is nothing to be best at", "use cost or time")
	}
	if err := f.askWhen(p); err != nil {
		return err
	}
	if f.budget == "" {
		return nil
	}
	var err error
	q.Budget, err = parseBudget(f.budget, q.Fleet)
	return err
}

// askFleet reads the fleet, or takes the example.
func (f *planFlags) askFleet(p *planned) error {
	var err error
	if p.example {
		p.question.Fleet, err = fleet.Parse(example.RentName, example.Rent(), p.catalogue)
	} else {
		p.question.Fleet, err = f.readFleet("--fleet", f.fleet, p.catalogue)
	}
	return err
}

// askModel reads the model and what is done with it.
func (f *planFlags) askModel(p *planned) error {
	name := f.model
	if name == "" && !p.example {
		return usage("--model", "", "is missing", "give a preset, a run file or a config.json")
	}
	if name == "" {
		name = exampleModel
	}
	var err error
	if p.model, err = readModel(name); err != nil {
		return err
	}
	q := &p.question
	q.Tokens = cmp.Or(int64(f.tokens.n), p.model.tokens)
	if q.Tokens == 0 && p.example {
		q.Tokens = exampleTokens
	}
	switch {
	case f.given("tokens") && f.tokens.n < 1:
		return usage("--tokens", "0", "is nothing to train on", "say how many, 1T for a trillion")
	case q.Tokens <= 0:
		return usage("--tokens", "", "is missing", "say how many tokens to train on, 1T for a trillion")
	}
	if !slices.Contains(planFormats(), f.format) {
		return usage("--format", f.format, "is no format that is predicted", "use one of "+strings.Join(planFormats(), ", "))
	}
	q.Task = plan.Task{Model: p.model.decoder, Format: f.format}
	if q.Task.Sequence, err = p.model.length(f.sequence, f.given("sequence")); err != nil {
		return err
	}
	return f.askBatch(p)
}

func (f *planFlags) askBatch(p *planned) error {
	const most = 1 << 24
	q := &p.question
	switch {
	case f.given("batch"):
		q.Task.Batch = f.batch
	case p.model.batch > 0:
		q.Task.Batch = p.model.batch
	default:
		q.Task.Batch = 1 << max(0, int(math.Round(math.Log2(float64(usualBatch)/float64(q.Task.Sequence)))))
		p.taken = append(p.taken, fmt.Sprintf("A step has %d sequences, %s tokens: --batch says otherwise.", q.Task.Batch, anatomy.Count(int64(q.Task.Batch)*int64(q.Task.Sequence))))
	}
	if q.Task.Batch < 1 || q.Task.Batch > most {
		return usage("--batch", strconv.Itoa(q.Task.Batch), "is no number of sequences", fmt.Sprintf("use 1 to %d", most))
	}
	return nil
}

// askWhen reads start and deadline.
func (f *planFlags) askWhen(p *planned) error {
	q := &p.question
	if f.start != "" {
		day, err := time.Parse(time.DateOnly, f.start)
		if err != nil {
			return usage("--start", f.start, "is no day", "write year-month-day, such as 2026-12-01")
		}
		q.Start = day
	}
	if err := dated(q.Fleet, q.Start); err != nil {
		return err
	}
	text := f.deadline
	if text == "" && p.example && f.model == "" {
		text = exampleDeadline
	}
	if text == "" {
		return nil
	}
	var err error
	q.Deadline, err = parseDeadline(text, q.Start)
	return err
}

// dated refuses pools that can be had for some days only of a run that begins on no day.
func dated(f fleet.Fleet, start time.Time) error {
	for _, p := range f.Pools {
		if start.IsZero() && !(p.From.IsZero() && p.Until.IsZero()) {
			return usage("--start", "", "is missing, and pool "+p.Name+" of "+f.File+" can be had for some days of the calendar only", "say when the run begins, such as --start 2026-12-01")
		}
	}
	return nil
}

var durationForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)([hdw])$`)

// parseDeadline gives seconds from the start.
func parseDeadline(text string, start time.Time) (float64, error) {
	const next = "write 30d, 12h, 6w, or a day such as 2027-03-01"
	if m := durationForm.FindStringSubmatch(text); m != nil {
		n, err := strconv.ParseFloat(m[1], 64)
		seconds := n * map[string]float64{"h": 3600, "d": day, "w": 7 * day}[m[2]]
		if err != nil || seconds <= 0 || seconds > 1e4*day {
			return 0, usage("--deadline", text, "is out of range", next)
		}
		return seconds, nil
	}
	end, err := time.Parse(time.DateOnly, text)
	switch {
	case err != nil:
		return 0, usage("--deadline", text, "is no time", next)
	case start.IsZero():
		return 0, usage("--deadline", text, "is a day of the calendar, and nothing says when the run begins", "add --start, such as --start 2026-12-01")
	case !end.After(start):
		return 0, usage("--deadline", text, "is not after the start, "+start.Format(time.DateOnly), "give a later day")
	}
	return end.Sub(start).Seconds(), nil
}

const day = 86400.0

var budgetForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)([kMB]?)(?: ?([A-Z]{3}))?$`)

// parseBudget gives an amount in the fleet's currency.
func parseBudget(text string, f fleet.Fleet) (float64, error) {
	m := budgetForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return 0, usage("--budget", text, "is no amount", `write 5M, or "5M CNY" with its currency`)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	n *= map[string]float64{"": 1, "k": 1e3, "M": 1e6, "B": 1e9}[m[2]]
	if err != nil || n <= 0 || n > 1e15 {
		return 0, usage("--budget", text, "is out of range", "give an amount above 0")
	}
	if f.Currency == "" {
		return 0, usage("--budget", text, "cannot be kept: "+f.File+" has no price", "add prices to its pools")
	}
	if m[3] == "" {
		return n, nil
	}
	return f.Convert(n, m[3])
}

// inParallel does n things on all cores.
func inParallel(n int, do func(i int)) {
	var (
		next atomic.Int64
		all  sync.WaitGroup
	)
	for range min(n, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}
