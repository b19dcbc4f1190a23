package oracle

import (
	"testing"

	"github.com/mistura-project/mistura/internal/model"
)

// fault is a mistake in what the oracle is asked, of a kind that a wrong engine
// would make. A comparison that does not notice it is worth nothing.
type fault struct {
	name string
	end  bool                                             // of a subject with documents
	make func(j *job, tensor func(name string) []float32) // alters a pass; tensor gives its weights
}

func faults() []fault {
	config := func(change func(c *model.Config)) func(*job, func(string) []float32) {
		return func(j *job, _ func(string) []float32) { change(&j.Config) }
	}
	swap := func(a, b string) func(*job, func(string) []float32) {
		return func(_ *job, tensor func(string) []float32) {
			x, y := tensor(a), tensor(b)
			for i := range x {
				x[i], y[i] = y[i], x[i]
			}
		}
	}
	return []fault{
		{name: "eps of norms", make: config(func(c *model.Config) { c.NormEps *= 1.1 })},
		{name: "base of rotary positions", make: config(func(c *model.Config) { c.RopeTheta *= 1.001 })},
		{name: "a part of each head turned", make: config(func(c *model.Config) { c.RotaryDims = 2 })},
		{name: "weights not scaled to sum 1", make: config(func(c *model.Config) { c.NormTopK = false })},
		{name: "scores of sigmoids", make: config(func(c *model.Config) { c.Router = model.Sigmoid })},
		{name: "experts' weights scaled", make: config(func(c *model.Config) { c.RoutedScale = 1.0001 })},
		{name: "balance loss divided otherwise", make: config(func(c *model.Config) { c.BalanceCoef *= float64(c.TopK) })},
		{name: "no z-loss", make: config(func(c *model.Config) { c.ZCoef = 0 })},
		{name: "gate and up in each other's place", make: swap("layers.1.experts.2.gate", "layers.1.experts.2.up")},
		{name: "experts in each other's place", make: swap("layers.1.experts.0.down", "layers.1.experts.1.down")},
		{name: "key and value in each other's place", make: swap("layers.2.attention.k", "layers.2.attention.v")},
		{name: "a transposed matrix", make: func(j *job, tensor func(string) []float32) {
			w := tensor("layers.0.dense.gate")
			rows, columns := j.Config.DenseFFN, j.Config.Dim
			old := append([]float32(nil), w...)
			for i := range w {
				w[i] = old[i%rows*columns+i/rows]
			}
		}},
		{name: "gradient through the norms of the head", make: func(j *job, _ func(string) []float32) { j.Inject = "attached_norms" }},
		{name: "documents not kept apart", end: true, make: func(j *job, _ func(string) []float32) { j.EndToken = nil }},
	}
}

// of is what the fault is made in: a configuration that uses everything.
func (f fault) of(t testing.TB) subject {
	t.Helper()
	name := "everything"
	if f.end {
		name += ", documents"
	}
	for _, s := range subjects(t) {
		if s.name == name {
			s.steps, s.nudged = 0, 0
			return s
		}
	}
	t.Fatalf("no subject is called %q", name)
	return subject{}
}

func (f fault) jobs(t testing.TB, s subject, path string) []job {
	t.Helper()
	jobs := s.jobs(t, path)
	params := s.params()
	f.make(&jobs[0], func(name string) []float32 {
		for _, x := range s.cfg.Tensors() {
			if x.Name == name {
				return params[x.Offset : x.Offset+x.Size()]
			}
		}
		t.Fatalf("no tensor is called %q", name)
		return nil
	})
	jobs[0].Name = "fault: " + f.name
	writeWeights(t, s.cfg, params, jobs[0].Weights)
	return jobs
}

// TestFaultsAreFound has the oracle compute something else than it says. Even the
// twin, which adds no error of its own, must then exceed the bounds of fp32.
func TestFaultsAreFound(t *testing.T) {
	for i, a := range ask(t).faulty {
		t.Run(faults()[i].name, func(t *testing.T) {
			m, err := a.measure(twin)
			if err != nil {
				t.Fatal(err)
			}
			if len(m.losses.over(fp32Loss))+len(m.gradients.over(fp32Gradient)) == 0 {
				t.Error("nothing exceeds its bound")
			}
			_, loss := m.losses.worst()
			_, gradient := m.gradients.worst()
			t.Logf("losses are off by %.1g, gradients by %.1g", loss, gradient)
		})
	}
}
