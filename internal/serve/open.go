package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/coord"
	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/syncer"
)

// Names in the run folder.
const (
	runFileName = "run.yaml"
	dataFolder  = "data"
	SeedName    = "seed.safetensors" // version 0 from the island marked seed
)

// opened is a run that is ready to begin or to go on.
type opened struct {
	run       runfile.Run
	runID     string
	era       uint32
	store     store.Store
	corpus    *corpus.Set // nil: islands bring their own data
	dataDir   string
	kernel    *kernel.Set
	authority *authority.Authority
	outside   bool   // no island is started here
	listening string // host:port for other hosts; empty: none
	public    string // address of that port once it is open
	nonce     string
	limits    authority.Token // of the join string that is shown
	shown     bool            // it was
	notes     []string        // to tell the user
	origin    json.RawMessage // of a model that was imported: what import noted; goes into checkpoints

	fromCheckpoint string // path of the one it goes on from; empty for a new run

	bank      *bank
	coord     *coord.State
	sync      *syncer.State
	coordTape *store.Sequence
	groupTape *store.Sequence

	incarnation uint64 // last one given before this era, by this process

	address, secret string       // of the port for the islands, once it was open; empty: not yet
	release         func()       // lets the run folder go
	early           *forerunners // processes from before the first era; nil: there were none

	offers   *offers
	captures map[uint64]*captured // newest captured state by incarnation
	saving   sync.WaitGroup
}

// open prepares the run folder. Everything that a user can get wrong is found
// here, before anything is computed.
func open(ctx context.Context, o Options) (*opened, error) {
	set, err := kernel.FromEnvironment()
	if err != nil {
		return nil, err
	}
	if !o.Outside {
		if err := checkTorch(ctx, o.Run); err != nil {
			return nil, err
		}
	}
	if err := checkListen(o.Listen); err != nil {
		return nil, err
	}
	if !o.Resume {
		if o.Run, err = checkNew(ctx, o); err != nil {
			return nil, err
		}
	}
	folder, err := store.OpenFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	var st store.Store = folder
	if o.wrap != nil {
		st = o.wrap(st)
	}
	op := &opened{
		run: o.Run, store: st, kernel: set, dataDir: filepath.Join(o.Dir, dataFolder), outside: o.Outside, listening: o.Listen, limits: o.Limits,
		offers: newOffers(), captures: map[uint64]*captured{},
	}
	if o.Resume {
		if err := op.nobodyCoordinates(ctx); err != nil {
			return nil, err
		}
	}
	if err := store.CheckSpace(ctx, st, op.saveBytes(), o.Run.Checkpoint.Keep); err != nil {
		return nil, err
	}
	if op.release, err = claim(ctx, folder, o.claim); err != nil {
		return nil, err
	}
	if err := op.enter(ctx, o, folder); err != nil {
		op.close()
		return nil, err
	}
	return op, nil
}

// claim makes this process the only one that coordinates the run, before it writes anything else.
func claim(ctx context.Context, folder *store.Folder, patience time.Duration) (release func(), err error) {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	release, holder, err := folder.Claim(ctx, fmt.Sprintf("process %d on %s", os.Getpid(), host), patience)
	if err == nil && release == nil {
		err = &fault.Input{Where: "run folder", Value: folder.Location(), Problem: "is in use by " + orElse(holder, "another process"), Next: "stop that one first, or let it run"}
	}
	return release, err
}

// enter opens what the run needs of its folder, which is this process's own now.
func (op *opened) enter(ctx context.Context, o Options, folder *store.Folder) (err error) {
	if err := store.ProveExclusive(ctx, op.store); err != nil {
		return err
	}
	if _, err := folder.Sweep(ctx, ""); err != nil { // what processes that were killed left half-written
		return fmt.Errorf("sweeping %s: %w", o.Dir, err)
	}
	if op.corpus, err = openCorpus(ctx, o, op.dataDir); err != nil {
		return err
	}
	if op.authority, err = authority.Open(o.Dir); err != nil {
		return err
	}
	return op.takeUp(ctx, o)
}

// takeUp begins the run or goes on with it.
func (op *opened) takeUp(ctx context.Context, o Options) error {
	if o.Resume {
		op.bank = op.newBank()
		return op.resume(ctx)
	}
	op.runID, op.era = firstName(o.Dir), 1
	if op.run.Model.From == runfile.FromSeed {
		if err := op.awaitSeed(ctx, o); err != nil {
			return err
		}
	}
	op.bank = op.newBank()
	return op.begin(ctx)
}

// firstName is the name of a new run: another one, unless its folder is that of a run which was ended
// before it had begun. Join strings of then stay good.
func firstName(dir string) string {
	if c, err := whoCoordinates(dir); err == nil && c.RunID != "" {
		return c.RunID
	}
	return randomName(6)
}

// checkNew refuses what a new run cannot begin with, and gives the run with the tensors
// that only the file of its first weights tells.
func checkNew(ctx context.Context, o Options) (runfile.Run, error) {
	if !o.Run.Data.Own {
		if err := corpus.Check(ctx, textOf(o.Run)); err != nil {
			return o.Run, err
		}
	}
	if err := unused(o.Dir); err != nil {
		return o.Run, err
	}
	run, err := adopt(o.Run)
	if err != nil {
		return run, err
	}
	switch {
	case run.Model.From == "":
		return run, drawable(run)
	case run.Model.From == runfile.FromSeed:
		return run, nil
	case run.Model.FromFile():
		if err := CheckMemory(Options{Run: run, Outside: o.Outside, Listen: o.Listen}); err != nil { // nobody knew its size before
			return run, err
		}
		return run, checkWeights(run)
	}
	_, err = findFirst(ctx, run)
	return run, err
}

// textOf is the text of a run.
func textOf(run runfile.Run) corpus.Spec {
	return corpus.Spec{Paths: run.Data.Paths, ValidShare: run.Data.ValidShare, Seq: run.Train.SequenceTokens}
}

// unused refuses a folder that holds another run.
func unused(dir string) error {
	for _, name := range []string{runFileName, "tape", "checkpoints"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return &fault.Input{
				Where: "--out", Value: dir, Problem: "already holds a run (" + name + " is there)",
				Next: "go on with it by --resume " + dir + ", or choose another folder",
			}
		}
	}
	return nil
}

// close lets the folder and the data go, and the processes that no era has taken over.
func (op *opened) close() {
	defer op.release()
	op.early.end()
	if op.corpus != nil {
		op.corpus.Close()
	}
}

// data is what is known of the text; nothing where islands bring their own.
func (op *opened) data() corpus.Info {
	if op.corpus == nil {
		return corpus.Info{}
	}
	return op.corpus.Info
}

// openCorpus tokenizes the text, or opens what was tokenized for this run before.
// Where islands bring their own there is none.
func openCorpus(ctx context.Context, o Options, dir string) (*corpus.Set, error) {
	if o.Run.Data.Own {
		return nil, nil
	}
	emit := o.Emit
	if emit == nil {
		emit = func(ledger.Event) {}
	}
	if o.Resume {
		set, err := corpus.Open(dir)
		if err != nil {
			return nil, err
		}
		if err := set.Verify(ctx); err != nil {
			set.Close()
			return nil, err
		}
		return set, nil
	}
	emit(ledger.Note{At: time.Now(), Text: "reading the text"})
	set, err := corpus.Build(ctx, textOf(o.Run), dir, func(done, total int64) {})
	if err != nil {
		return nil, err
	}
	i := set.Info
	emit(ledger.Note{At: time.Now(), Text: fmt.Sprintf("text: %s, %s training and %s held-out tokens, %s",
		i.Source, ledger.Amount(float64(i.TrainTokens)), ledger.Amount(float64(i.ValidTokens)), documents(o.Run))})
	return set, nil
}

// documents says how documents that share a sample are treated.
func documents(run runfile.Run) string {
	if run.Train.DocumentBoundaries {
		return "documents kept apart"
	}
	return "documents run on"
}

// saveBytes is the size of one checkpoint: parameters and outer momentum, and
// each island's weights and two moments.
func (op *opened) saveBytes() int64 {
	return 4 * int64(op.run.Size()) * int64(2+3*len(op.run.Islands))
}

// newBank is room for the fragments of the run.
func (op *opened) newBank() *bank {
	x := op.run.Exchange
	b := newBank(fragment.Split(op.run.Table(), x.Fragments), outer.Step{Rate: *x.OuterRate, Momentum: *x.OuterMomentum}, op.run.Train.SequenceTokens)
	b.ownData = op.run.Data.Own
	return b
}

// begin is era 1: weights from the seed, version 0 everywhere.
func (op *opened) begin(ctx context.Context) error {
	params := make([]float32, op.run.Size())
	w, err := op.firstWeights(ctx, params)
	if err != nil {
		return err
	}
	op.bank.load(params, make([]float32, len(params)))
	op.coord = coord.New(op.coordConfig())
	op.sync = syncer.New(op.syncConfig())
	if err := op.writeRunFile(ctx, op.store.Create); err != nil {
		return err
	}
	return op.openTapes(ctx, eraRecord{Weights: w.digest, Casts: w.casts})
}

// writeRunFile stores the resolved run so that it can be run again as it is: in a
// folder of its own.
func (op *opened) writeRunFile(ctx context.Context, create func(context.Context, string, []byte) error) error {
	run := op.run
	run.Out = ""
	err := create(ctx, runFileName, run.Marshal())
	if errors.Is(err, store.ErrExists) {
		return &fault.Input{Where: "--out", Value: op.store.Location(), Problem: "another run is starting there", Next: "choose another folder", Err: err}
	}
	if err != nil {
		return fmt.Errorf("writing the run file: %w", err)
	}
	return nil
}

func (op *opened) replace(ctx context.Context, name string, data []byte) error {
	_, err := op.store.Put(ctx, name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	return err
}

func (op *opened) coordConfig() coord.Config {
	l := op.run.Limits
	c := coord.Config{
		TotalSamples: op.run.TotalSamples(), StepSamples: op.run.StepSamples(),
		PeriodSamples:     int64(op.run.Exchange.PeriodTokens) / int64(op.run.Train.SequenceTokens),
		CheckpointSamples: int64(op.run.Checkpoint.EveryTokens) / int64(op.run.Train.SequenceTokens),
		Heartbeat:         seconds(l.HeartbeatSeconds), Stall: seconds(l.StallSeconds), StallFactor: l.StallFactor,
		FirstStep: seconds(l.FirstStepSeconds), Runway: seconds(l.RunwaySeconds), Restarts: l.Restarts,
		CheckpointWait: op.copyWait(), StopWait: 30 * time.Second,
		Gate: true,
		Seed: op.run.Seed, SpikeLimit: op.run.Spike.Limit, SpikeSteps: int64(op.run.Spike.LimitSteps), Rollbacks: op.run.Spike.Rollbacks,
	}
	c.Evaluator = evaluatorOf(op.run)
	var names []string
	for _, i := range op.run.Islands {
		names = append(names, i.Name)
		if i.Engine == runfile.External {
			c.Patient = append(c.Patient, i.Name)
		}
	}
	if op.outside {
		c.Outside, c.Open = names, len(names) == 0
	} else {
		c.Islands, c.Open = names, op.listening != "" // those that join bring names of their own
	}
	return c
}

// An island copies its own state, which may go through the memory of a trainer's ranks, while a
// checkpoint waits: a weight and two moments for each element, at a rate that any host reaches.
const (
	ownStateBytes       = 12
	slowCopyBytesPerSec = 200e6
)

func (op *opened) copyWait() time.Duration {
	return 30*time.Second + seconds(ownStateBytes*float64(op.run.Size())/slowCopyBytesPerSec)
}

func (op *opened) syncConfig() syncer.Config {
	x := op.run.Exchange
	return syncer.Config{
		Era: op.era, View: firstView, Fragments: len(op.bank.fragments), PeriodTokens: int64(x.PeriodTokens), Quorum: x.Quorum,
		MaxWait: seconds(x.MaxWaitSeconds), StaleVersions: uint64(x.StaleVersions), RefusalLimit: 3, RefusalWindow: 20,
	}
}

// sampleTokens is the number of tokens of one sample.
func (op *opened) sampleTokens() int64 { return int64(op.run.Train.SequenceTokens) }

// consumed is the number of tokens that are in the model.
func (op *opened) consumed() int64 {
	samples, _, _ := op.coord.Account()
	return samples * op.sampleTokens()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
