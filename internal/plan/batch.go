package plan

// For is the model for another batch of the island. It shares all that was prepared.
func (m *Model) For(batch int) *Model {
	other := *m
	other.task.Batch, other.memory.task.Batch = batch, batch
	return &other
}

// ProductShare is the part of the peak that large products reach.
func (m *Model) ProductShare() float64 { return 1 / (m.c.product * m.chip.Peak[m.task.Format]) }

// Memory is that of a step, in bytes, without its time.
func (m *Model) Memory(l Layout) [Parts]float64 { return m.memory.of(l) }
