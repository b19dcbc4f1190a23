package coord

import "time"

// Config is what the coordinator needs to know of a run. Zero values are not
// defaults: package serve fills it from the resolved run file.
type Config struct {
	Islands           []string      // names of those that the run starts itself, in run file order
	Patient           []string      // of Islands: their processes wait until somebody starts a trainer, however long
	Outside           []string      // names of those that come by themselves
	Open              bool          // islands of other names may come, too
	Seed              uint64        // of the run's draws
	TotalSamples      int64         // to be consumed in the whole run
	StepSamples       int64         // of one inner step; every grant is a multiple while the pool lasts
	PeriodSamples     int64         // fleet samples between two exchanges of a fragment
	CheckpointSamples int64         // consumed between two checkpoints; 0: only at the end
	Heartbeat         time.Duration // silence after which an island is dead
	Stall             time.Duration // no inner step for max(Stall, StallFactor × its median step): dead
	StallFactor       float64
	FirstStep         time.Duration // the same before its first step; transfers renew it
	Runway            time.Duration // a lease reaches this far beyond the last verdict
	Restarts          int           // starts in a row that bring nothing into the model, after which an island is given up
	CheckpointWait    time.Duration // bound of each phase of a checkpoint that waits for others, or a longer stall; transfers renew it
	StopWait          time.Duration // the same of the flush when the run is interrupted
	SpikeLimit        int           // spikes within SpikeSteps inner steps of all islands that roll the run back; 0: any number is borne
	SpikeSteps        int64
	Rollbacks         int    // of the run; in place of the next one it fails
	Gate              bool   // an island waits for Gated before it is seeded
	Evaluator         string // island that measures the finished model before the run ends; empty: nobody does
}
