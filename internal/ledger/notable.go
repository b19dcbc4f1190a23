package ledger

// Notable reports whether an event deserves a line of its own; the others show in
// totals and bars.
func Notable(e Event) bool {
	switch e := e.(type) {
	case StepDone, Merged, Consumed, IslandReady:
		return false
	case Gated:
		return !e.Own
	case IslandStarted:
		return e.Restart || e.Numeric != "" // emulation is said once, at the start
	case IslandGone:
		return e.Kind != Finished
	default:
		return true
	}
}
