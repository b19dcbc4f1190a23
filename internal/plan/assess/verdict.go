package assess

import (
	"fmt"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/chip"
)

// Verdict is the answer in a sentence.
type Verdict struct {
	Answer   Answer `json:"answer"`
	Sentence string `json:"sentence"` // at most 100 columns
	Rule     string `json:"rule"`
}

// Answer is the verdict in a word.
type Answer string

// Answers.
const (
	Cheaper   Answer = "yes"        // cheaper than the reference over the whole range
	Dearer    Answer = "no"         // dearer over the whole range
	Undecided Answer = "undecided"  // the range has 1 inside
	Priced    Answer = "at a price" // no price of both: cheaper below one
	Unfit     Answer = "unfit"      // no number of chips holds the model
	Unknown   Answer = "unknown"    // nothing can be predicted
)

// Rule is how a verdict follows from the numbers.
const Rule = "yes: a trillion tokens cost less than on the reference over the whole predicted range; no: more; undecided: neither; " +
	"at a price: without prices in one currency, the price of a chip-hour below which it is cheaper. " +
	"Unproven: fewer than 5 published runs of the chip. Whether it trains the same model is not judged here: only a run beside a reference proves that."

// columns is how long a sentence may be.
const columns = 100

func (q Question) verdict(r Report) Verdict {
	answer, sentence := q.judge(r.Performance)
	if answer != Unfit && answer != Unknown {
		if !r.Performance.Chip.Evidence.Proven() {
			sentence = withTail(sentence, "; unproven")
		}
		if !q.Chip.Of(chip.Torch).Known() {
			sentence = withTail(sentence, "; no PyTorch route is known")
		}
	}
	return Verdict{answer, withTail(sentence, "."), Rule}
}

// withTail adds to a sentence what there is room for.
func withTail(sentence, tail string) string {
	if utf8.RuneCountInString(sentence+tail) > columns {
		return sentence
	}
	return sentence + tail
}

// judge gives the answer and its sentence without an end.
func (q Question) judge(p Performance) (Answer, string) {
	own, other := p.Chip, p.Reference
	switch {
	case own.Missing != "" && own.Memory > 0:
		return Unfit, fmt.Sprintf("No: %s cannot hold %s on %d chips; it %s", own.Chip, q.Model.Name, own.Chips, own.Missing)
	case own.Missing != "":
		return Unknown, fmt.Sprintf("Unknown for %s: %s", own.Chip, own.Missing)
	case p.Rate == nil:
		return Unknown, fmt.Sprintf("Unknown for %s: %s %s", own.Chip, other.Chip, other.Missing)
	}
	each := fmt.Sprintf("%s do the work of one %s", spoken(p.Rate.under(1)), other.Chip)
	switch {
	case p.Cost == nil && p.Worth == nil:
		return Unknown, fmt.Sprintf("Without prices: %s", each)
	case p.Cost == nil:
		return Priced, fmt.Sprintf("Yes below %s %s an hour: %s", spoken(*p.Worth), p.Currency, each)
	case p.Cost.High < 1:
		return Cheaper, fmt.Sprintf("Yes: tokens cost %s %% less than on %s", percents(1-p.Cost.High, 1-p.Cost.Low), other.Chip)
	case p.Cost.Low > 1:
		return Dearer, fmt.Sprintf("No: tokens cost %s %% more than on %s", percents(p.Cost.Low-1, p.Cost.High-1), other.Chip)
	}
	return Undecided, fmt.Sprintf("Undecided: tokens cost %s times those on %s", spoken(*p.Cost), other.Chip)
}

// spoken is a span in few characters.
func spoken(s Span) string {
	if s.High/s.Low < 1.01 {
		return fmt.Sprintf("%.3g", s.Mid)
	}
	return fmt.Sprintf("%.3g (%.2g–%.2g)", s.Mid, s.Low, s.High)
}

// percents are two shares in few characters.
func percents(low, high float64) string {
	from, to := fmt.Sprintf("%.0f", 100*low), fmt.Sprintf("%.0f", 100*high)
	if from == to {
		return from
	}
	return from + "–" + to
}
