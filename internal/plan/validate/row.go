package validate

import (
	"cmp"
	"fmt"

	"github.com/mistura-project/mistura/internal/anatomy"
	"github.com/mistura-project/mistura/internal/chip"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/plan"
	"github.com/mistura-project/mistura/internal/published"
)

// Unit is that of measured and predicted: all is compared as the time of a step.
const Unit = "s"

// Row is a published run beside its prediction.
type Row struct {
	ID       string `json:"id"`
	Source   string `json:"source"`
	Chip     string `json:"chip"`   // as the catalogue names it, if it does
	Family   string `json:"family"` // architecture of the chip
	Kind     string `json:"kind"`   // dense or MoE
	Format   string `json:"format"`
	Software string `json:"software"`

	Measured  Number `json:"measured"`
	Predicted Number `json:"predicted"`
	Low       Number `json:"low"` // 80 % of runs are to lie between these
	High      Number `json:"high"`
	Error     Number `json:"error"`           // predicted/measured - 1
	Unsure    Number `json:"measured_unsure"` // by how much the measured time may be off, as a fraction

	Calibrates bool     `json:"used_for_calibration"`
	Comparable bool     `json:"comparable"` // states all that a comparison needs
	Newer      bool     `json:"newer_software"`
	Twin       bool     `json:"twin_in_calibration"`
	Anchor     bool     `json:"anchor"`            // set a factor and is not scored
	Use        Number   `json:"utilisation"`       // measured share of the dense peak, causal attention, nothing recomputed
	Assumed    []string `json:"assumed,omitempty"` // what the row leaves out and was taken for granted
	Skipped    Reason   `json:"skipped_reason"`

	run    published.Run
	of     published.Case
	step   plan.Step
	placed bool // of is set
	told   bool // step is set
}

// Scored says that the row's error counts among those to expect.
func (r Row) Scored() bool { return r.Skipped == "" && !r.Calibrates && !r.Newer && !r.Anchor }

// Within says that the measured time lies in the predicted range.
func (r Row) Within() bool { return r.Low <= r.Measured && r.Measured <= r.High }

// row predicts a run.
func (j judge) row(run published.Run) Row {
	r := Row{ID: run.ID, Source: run.Source, Chip: run.ChipID, Kind: kindOf(run), Software: cmp.Or(run.Software, "not stated"), Comparable: run.Comparable(),
		Measured: Unknown(), Predicted: Unknown(), Low: Unknown(), High: Unknown(), Error: Unknown(), Unsure: Unknown(), Use: Unknown(), run: run,
		Calibrates: j.split.Calibrates(run), Newer: j.split.Newer(run)}
	var err error
	if r.of, err = run.Case(j.chips); err != nil {
		return r.skip(err)
	}
	r.placed = true
	r.Chip, r.Family, r.Format, r.Assumed = r.of.Chip.Name, r.of.Chip.Of(chip.Arch).Text(), r.of.Format, r.of.Assumed
	r.Twin = !r.Calibrates && j.twins[r.of.Twin()]
	measured, unclear := r.of.Step(j.split.Of(run.Source).Counts)
	if unclear == nil {
		r.Measured, r.Unsure = Number(measured.Seconds), Number(measured.Unsure)
		r.Use = Utilisation(r.of, measured.Seconds)
	}
	if r.step, err = j.predict(r.of); err != nil {
		return r.skip(err)
	}
	r.told = true
	r.Predicted, r.Low, r.High = Number(r.step.Seconds), Number(r.step.Low), Number(r.step.High)
	switch {
	case unclear != nil:
		return r.skip(unclear)
	case r.Use > 1:
		return r.skip(impossible(r))
	case !r.Predicted.Known() || !(r.Predicted > 0):
		return r.skip(&fault.Input{Where: "predicted", Value: fmt.Sprint(float64(r.Predicted)), Problem: "is no time", Next: "check the sizes of the model"})
	}
	r.Error = r.Predicted/r.Measured - 1
	return r
}

func (r Row) skip(reason error) Row {
	r.Skipped = Reason(reason.Error())
	return r
}

func kindOf(r published.Run) string {
	if r.MoE() {
		return "MoE"
	}
	return "dense"
}

// Utilisation is the share of the dense peak of the run's number format that a step of
// so many seconds makes of: causal attention, nothing recomputed, of sources that
// disagree on the peak the highest. Above 1 the time is an error.
func Utilisation(c published.Case, seconds float64) Number {
	field, ok := chip.Peak(c.Format)
	if !ok {
		return Unknown()
	}
	_, peak, ok := c.Chip.Of(field).Range()
	if !ok {
		return Unknown()
	}
	work := c.Decoder.Work(anatomy.Convention{Sequence: c.Sequence})
	done := (work.Forward() + work.Backward()) * float64(c.Batch) * float64(c.Sequence)
	return Number(done / (seconds * float64(c.Chips) * peak * 1e12))
}

// impossible refuses a time in which no chip does that much.
func impossible(r Row) error {
	return &fault.Input{Where: "measured_value", Value: fmt.Sprintf("%.10g", r.run.Measured.Value),
		Problem: fmt.Sprintf("is %.4g %% of the dense %s peak of %s: an error", 100*float64(r.Use), r.Format, r.Chip), Next: "check value, unit and chip_id"}
}
