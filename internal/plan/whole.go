package plan

// Keeping is how a run guards against losing work.
type Keeping struct {
	Checkpoint float64 // seconds of training between two checkpoints; 0: 3600
	Restart    float64 // seconds from an interruption until training goes on; 0: 600
}
