package serve_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mistura-project/mistura/internal/engine/kernel"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// Acts of a fake island.
const (
	actHang   = "hang"   // says that it lives, makes no step
	actPoison = "poison" // one contribution is NaN; once it is re-seeded it ends
	actVenom  = "venom"  // every contribution is NaN
	actRush   = "rush"   // does not wait for the verdict on a contribution before it sends the next
	actBalk   = "balk"   // ends when it is welcomed
	actForge  = "forge"  // says that its first tensor came as other bits than it did
	actOther  = "other"  // says that it has the parameters of another run

	actDie     = "die-"    // with a sample: a real island, killed by force in the step that has it
	actSpoil   = "spoil-"  // with N-BYTES in hex: a real island, to which the Nth of these bytes come damaged
	actFragile = "fragile" // a real island, whose connections break at each SIGUSR1
)

// fakeLearner speaks the protocol and trains nothing: it takes one step of its
// lease for every contribution that it makes.
type fakeLearner struct {
	act       string
	conn      *transport.Conn
	fragments []fragment.Fragment
	digests   [][]byte
	samples   int64 // of one step
	seq       int64 // tokens of one sample

	leased, position int64
	step             uint64
	sequence         []uint64
	from             []int64 // position of the last contribution, by fragment
	version          []uint64
	open, called     []bool // by fragment: no verdict yet; called in the meantime
	seeds            int
	refused          bool
}

func actAsFake(join wire.Join, act string) error {
	set, err := kernel.FromEnvironment()
	if err != nil {
		return err
	}
	ctx := context.Background()
	hello := &wire.Hello{KernelSet: set.Name(), Version: "fake", Pid: uint64(os.Getpid())}
	if act == actOther {
		hello.TableDigest = wire.TableDigest([]wire.TensorShape{{Name: "head.weight", Shape: []int{4, 16}}})
	}
	conn, err := transport.Dial(ctx, join, hello)
	if err != nil {
		return err
	}
	defer conn.Close()
	f := &fakeLearner{act: act, conn: conn}
	for {
		receiving, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		m, err := conn.Recv(receiving)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			err = f.beat(0) // a heartbeat is due
		case err == nil:
			err = f.take(m)
		}
		if errors.Is(err, errFakeDone) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var errFakeDone = errors.New("the act is over")

func (f *fakeLearner) say(body *wire.FromLearner, payload []byte) error {
	return f.conn.Send(transport.Up{FromLearner: body, Payload: payload})
}

func (f *fakeLearner) beat(stepSeconds float64) error {
	return f.say(&wire.FromLearner{Body: &wire.FromLearner_Progress{Progress: &wire.Progress{
		Step: f.step, Position: uint64(f.position), Tokens: uint64(f.position * f.seq), StepSeconds: stepSeconds,
	}}}, nil)
}

func (f *fakeLearner) take(m transport.Down) error {
	switch b := m.Body.(type) {
	case *wire.ToLearner_Welcome:
		return f.welcome(b.Welcome)
	case *wire.ToLearner_Fragment:
		return f.fragment(b.Fragment, m.Payload)
	case *wire.ToLearner_Lease:
		for _, r := range b.Lease.Ranges {
			f.leased += int64(r.To - r.From)
		}
	case *wire.ToLearner_Call:
		if f.called[b.Call.Fragment] = f.open[b.Call.Fragment]; f.called[b.Call.Fragment] {
			return nil // answered with the verdict, as an island does
		}
		return f.contribute(int(b.Call.Fragment))
	case *wire.ToLearner_Verdict:
		if b.Verdict.Ruling == wire.Ruling_REFUSED {
			f.refused, f.seeds = true, 0
		}
		again := f.called[b.Verdict.Fragment] && f.act != actPoison
		f.open[b.Verdict.Fragment], f.called[b.Verdict.Fragment] = false, false
		if again {
			return f.contribute(int(b.Verdict.Fragment))
		}
	case *wire.ToLearner_Rejected:
		return errors.New(b.Rejected.Reason)
	case *wire.ToLearner_Stop:
		return errFakeDone
	}
	return nil
}

func (f *fakeLearner) welcome(w *wire.Welcome) error {
	if f.act == actBalk {
		return errors.New("it will not take what it is given")
	}
	run, err := runfile.Parse("welcome", w.RunYaml)
	if err == nil {
		run, err = run.Resolve()
	}
	if err != nil {
		return err
	}
	f.fragments = fragment.Split(run.Table(), run.Exchange.Fragments)
	f.samples, f.seq = run.StepSamples(), int64(run.Train.SequenceTokens)
	f.open, f.called = make([]bool, len(f.fragments)), make([]bool, len(f.fragments))
	f.sequence, f.from, f.version = make([]uint64, len(f.fragments)), make([]int64, len(f.fragments)), make([]uint64, len(f.fragments))
	return nil
}

// fragment takes a seed; after the last one it is ready, or done when it was
// re-seeded as it wanted to be.
func (f *fakeLearner) fragment(m *wire.Fragment, payload []byte) error {
	value := make([]float32, f.fragments[m.Fragment].Size)
	if err := wire.DecodeF32(value, payload); err != nil {
		return err
	}
	for _, v := range value {
		if math.IsNaN(float64(v)) {
			return errors.New("the shared model holds a NaN")
		}
	}
	f.version[m.Fragment] = m.Version
	f.digests = append(f.digests, f.fragments[m.Fragment].Digests(value)...)
	if f.seeds++; f.seeds < len(f.fragments) {
		return nil
	}
	if f.refused {
		if f.act == actPoison {
			fmt.Fprintln(os.Stderr, "re-seeded")
			return errFakeDone
		}
		return nil
	}
	if f.act == actForge {
		f.digests[0] = make([]byte, len(f.digests[0]))
	}
	if err := f.say(&wire.FromLearner{Body: &wire.FromLearner_Ready{Ready: &wire.Ready{TensorDigest: f.digests}}}, nil); err != nil {
		return err
	}
	return f.say(&wire.FromLearner{Body: &wire.FromLearner_LeaseRequest{LeaseRequest: &wire.LeaseRequest{}}}, nil)
}

// contribute answers a call: with NaN for a step it pretends to have made.
func (f *fakeLearner) contribute(p int) error {
	if f.act == actHang || f.position+f.samples > f.leased {
		return nil
	}
	f.position += f.samples
	f.step++
	if err := f.beat(0.001); err != nil {
		return err
	}
	f.open[p] = true
	part := f.fragments[p]
	delta := make([]float32, part.Size)
	delta[part.Sizes[0]-1] = float32(math.NaN())
	f.sequence[p]++
	tokens := uint64((f.position - f.from[p]) * f.seq)
	c := &wire.Contribution{
		Fragment: uint32(p), Sequence: f.sequence[p], BaseVersion: f.version[p], FromStep: f.step - 1, ToStep: f.step,
		FromPosition: uint64(f.from[p]), ToPosition: uint64(f.position), Tokens: tokens,
	}
	f.from[p] = f.position
	for range part.Tensors {
		c.TensorTokens = append(c.TensorTokens, tokens)
	}
	if f.act == actRush {
		clear(delta)
		if err := f.say(&wire.FromLearner{Body: &wire.FromLearner_Contribution{Contribution: c}}, wire.AppendF32(nil, delta)); err != nil {
			return err
		}
		c = proto.Clone(c).(*wire.Contribution)
		c.Sequence++
	}
	return f.say(&wire.FromLearner{Body: &wire.FromLearner_Contribution{Contribution: c}}, wire.AppendF32(nil, delta))
}
