package oracle

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"testing"
)

// answers are what the oracle computed for one subject.
type answers struct {
	subject
	pass   results   // losses, gradients and intermediate tensors of one batch
	trace  results   // of a training run; nil without
	nudged []results // fp32 traces from weights that differ by one unit in the last place

	measured map[string]*measured // by learner, as far as asked for
}

// processes is how many oracles run side by side.
const processes = 2

// oracle is all that the oracle is ever asked about models.
type oracle struct {
	right  []*answers
	faulty []*answers // to questions put wrong on purpose

	own       map[string]results // of ownJobs, by name
	otherwise map[string]float64 // share of tokens, by the names of jobs with imposed choices
}

var asked struct {
	once   sync.Once
	oracle oracle
	err    error
}

// ask gives all answers, computed once.
func ask(t testing.TB) oracle {
	t.Helper()
	command(t) // skips
	asked.once.Do(func() { asked.err = asked.oracle.ask(t) })
	if asked.err != nil {
		t.Fatal(asked.err)
	}
	return asked.oracle
}

func (o *oracle) ask(t testing.TB) error {
	var all [][]job
	for _, s := range subjects(t) {
		o.right = append(o.right, &answers{subject: s, measured: map[string]*measured{}})
		all = append(all, s.jobs(t, filepath.Join(folder, fmt.Sprint(len(all)))))
	}
	for _, f := range faults() {
		s := f.of(t)
		o.faulty = append(o.faulty, &answers{subject: s, measured: map[string]*measured{}})
		all = append(all, f.jobs(t, s, filepath.Join(folder, fmt.Sprint(len(all)))))
	}
	own := ownJobs(t)
	var err error
	if o.otherwise, err = runAll(t, append(all, own)); err != nil {
		return err
	}
	o.own = map[string]results{}
	for _, j := range own {
		if o.own[j.Name], err = readResults(j.Out); err != nil {
			return err
		}
	}
	for i, a := range append(append([]*answers{}, o.right...), o.faulty...) {
		if err := a.read(all[i]); err != nil {
			return err
		}
	}
	return nil
}

// runAll runs lists of jobs, each list in its order, and gives what runJobs does.
func runAll(t testing.TB, all [][]job) (map[string]float64, error) {
	queues, steps := make([][]job, processes), make([]int, processes)
	for _, jobs := range all { // to the process that has least to do
		least := 0
		for i := range queues {
			if steps[i] < steps[least] {
				least = i
			}
		}
		for _, j := range jobs {
			steps[least]++
			if j.Training != nil {
				steps[least] += j.Training.Steps
			}
		}
		queues[least] = append(queues[least], jobs...)
	}
	var done sync.WaitGroup
	shares, errs := make([]map[string]float64, processes), make([]error, processes)
	for i, jobs := range queues {
		done.Add(1)
		go func() {
			defer done.Done()
			shares[i], errs[i] = runJobs(t, fmt.Sprintf("jobs%d", i), jobs)
		}()
	}
	done.Wait()
	otherwise := map[string]float64{}
	for _, s := range shares {
		maps.Copy(otherwise, s)
	}
	return otherwise, errors.Join(errs...)
}

// jobs are a pass, a trace, and nudged traces with the first one's choices.
func (s subject) jobs(t testing.TB, path string) []job {
	t.Helper()
	pass := job{Name: s.name + ": pass", Config: s.cfg, Weights: path + ".weights", EndToken: s.end,
		Tokens: table(s.tokens(0, s.rows, s.seq), s.rows), Noise: s.noise(s.warmup(s.rows)), Out: path + ".pass"}
	writeWeights(t, s.cfg, s.params(), pass.Weights)
	jobs := []job{pass}
	if s.steps == 0 {
		return jobs
	}
	trace := pass
	trace.Name, trace.Weights, trace.Out = s.name+": trace", path+".start", path+".trace"
	trace.Noise = nil
	trace.Training = newTraining(s.steps, adamw(), schedule())
	var batches [][][]int32
	for _, tokens := range s.traceTokens() {
		batches = append(batches, table(tokens, traceRows))
	}
	trace.Tokens = batches
	writeWeights(t, s.cfg, s.start(), trace.Weights)
	jobs = append(jobs, trace)
	for i := range s.nudged {
		nudged := trace
		nudged.Name, nudged.Nudge, nudged.Dtype = fmt.Sprintf("%s: nudged %d", s.name, i), &i, "float32"
		nudged.Choices, nudged.Out = trace.Out, fmt.Sprintf("%s.nudged%d", path, i)
		jobs = append(jobs, nudged)
	}
	return jobs
}

// read takes up what the jobs wrote.
func (a *answers) read(jobs []job) error {
	for _, j := range jobs {
		r, err := readResults(j.Out)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", j.Name, err)
		case j.Training == nil:
			a.pass = r
		case j.Nudge == nil:
			a.trace = r
		default:
			a.nudged = append(a.nudged, r)
		}
	}
	return nil
}
