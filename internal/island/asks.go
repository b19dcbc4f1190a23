package island

// asks are the questions for a validation loss that the trainer has not answered; true is the
// one for the finished model. A trainer measures where it is told to, or where its loop looks,
// once for all that it was told of meanwhile.
type asks struct {
	ordered []bool // with its next orders
	told    []bool // with the last ones
	late    []bool // with earlier ones: its loop has not come to it
}

// order adds a question.
func (a *asks) order(last bool) { a.ordered = append(a.ordered, last) }

// tell: the trainer gets its orders.
func (a *asks) tell() {
	a.late = append(a.late, a.told...)
	a.told, a.ordered = a.ordered, nil
}

// answered: the trainer has measured, which answers what it was told of before and the first
// question that it was told of now. It says whether that is of the finished model, and how many
// questions are left.
func (a *asks) answered() (last bool, left int) {
	n := min(1, len(a.told))
	last = anyTrue(a.late) || anyTrue(a.told[:n])
	a.late, a.told = nil, a.told[n:]
	return last, len(a.told) + len(a.ordered)
}

// waited: the trainer waits for the run and has measured nothing. That it was told of the
// finished model it cannot hear again; everything else its loop may come to yet.
func (a *asks) waited() (over bool) {
	if !anyTrue(a.late) && !anyTrue(a.told) {
		return false
	}
	a.late, a.told = nil, nil
	return true
}

func anyTrue(of []bool) bool {
	for _, b := range of {
		if b {
			return true
		}
	}
	return false
}
