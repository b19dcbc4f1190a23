package serve_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// Acts that make a real island look like one of three hosts.
const (
	actHosts = "hosts"      // its contributions come in three parts
	actGap   = "hosts-gap"  // one element of one tensor is nobody's
	actTwice = "hosts-both" // one tensor is held by two hosts
	actLoses = "hosts-lose" // its last host is lost with the fifth contribution
)

// hostCount is of an island that looks like many.
const hostCount = 3

// spread stands between an island and the coordinator: to the one it is the coordinator, to
// the other it is three hosts.
type spread struct {
	act       string
	join      wire.Join
	hello     *wire.Hello
	island    *transport.Peer
	fragments []fragment.Fragment
	within    [hostCount][][]layout.Box // by fragment

	mu      sync.Mutex
	conns   [hostCount]*transport.Conn
	sent    int
	heard   [hostCount][]string
	welcome chan struct{}
}

// spreadOut is where the island finds its spread.
func spreadOut(join wire.Join, act string) (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &spread{act: act, join: join, welcome: make(chan struct{})}
	server := transport.New(transport.Options{RunID: join.RunID, Era: join.Era, View: 1, Secret: join.Secret}, s)
	go server.Serve(lis) //nolint:errcheck // it ends with the process
	return lis.Addr().String(), nil
}

// Hello opens the first host's session; the others follow its welcome.
func (s *spread) Hello(p *transport.Peer, hello *wire.Hello, _ *wire.Origin) {
	s.island, s.hello = p, hello
	run, err := runfile.Default().WithModel("ling-tiny")
	if err != nil {
		p.Close(err.Error())
		return
	}
	tensors := run.Table()
	s.fragments = fragment.Split(tensors, run.Exchange.Fragments)
	for part := range hostCount {
		_, s.within[part] = layout.Divide(s.fragments, tensors, share(tensors, part, s.act))
	}
	for part := range hostCount {
		if err := s.dial(part, share(tensors, part, s.act)); err != nil {
			p.Close(err.Error())
			return
		}
	}
}

// share is what a host holds: a column of a matrix's halves, whole vectors, and a tail of
// elements.
func share(tensors []model.Tensor, part int, act string) []layout.Box {
	var out []layout.Box
	for i, t := range tensors {
		holder, rest := i%hostCount, (i+1)%hostCount
		if act == actTwice && i == 7 && part == rest {
			out = append(out, layout.Whole(i, t.Shape))
			continue
		}
		if len(t.Shape) == 2 && t.Shape[1] > 1 {
			half := t.Shape[1] / 2
			left := layout.Box{Tensor: i, Offset: []int{0, 0}, Extent: []int{t.Shape[0], half}}
			right := layout.Box{Tensor: i, Offset: []int{0, half}, Extent: []int{t.Shape[0], t.Shape[1] - half}}
			if part == holder {
				out = append(out, left)
			}
			if part == rest {
				out = append(out, right)
			}
			continue
		}
		size := t.Size()
		if act == actGap && i == 1 {
			size--
		}
		if part == holder {
			out = append(out, layout.Box{Tensor: i, Offset: []int{0}, Extent: []int{size / 3}})
		}
		if part == rest {
			out = append(out, layout.Box{Tensor: i, Offset: []int{size / 3}, Extent: []int{size - size/3}})
		}
	}
	return out
}

func (s *spread) dial(part int, boxes []layout.Box) error {
	run, err := runfile.Default().WithModel("ling-tiny")
	if err != nil {
		return err
	}
	hello := &wire.Hello{
		Island: s.join.Island, KernelSet: s.hello.KernelSet, Version: s.hello.Version, Pid: s.hello.Pid + uint64(part),
		Part: uint32(part), Parts: hostCount, Pieces: layout.ToWire(run.Table(), boxes),
	}
	conn, err := transport.Dial(context.Background(), s.join, hello)
	if err != nil {
		return err
	}
	s.conns[part] = conn
	go s.pass(part, conn)
	if part == 0 {
		<-s.welcome
	}
	return nil
}

// pass hands what the first host hears to the island. The others must hear the same values.
func (s *spread) pass(part int, conn *transport.Conn) {
	for {
		m, err := conn.Recv(context.Background())
		if err != nil {
			if part == 0 {
				s.island.Close(err.Error())
				closeOnce(s.welcome)
			}
			return
		}
		switch b := m.Body.(type) {
		case *wire.ToLearner_Welcome:
			if part == 0 {
				closeOnce(s.welcome)
			}
		case *wire.ToLearner_Capture:
			if part > 0 { // the island is one process and has one state
				stored := &wire.Stored{Checkpoint: b.Capture.Checkpoint, Reason: "its state is the first host's"}
				conn.Send(transport.Up{FromLearner: &wire.FromLearner{Body: &wire.FromLearner_Stored{Stored: stored}}}) //nolint:errcheck // the run will miss it
			}
		case *wire.ToLearner_Fragment:
			s.hear(part, fmt.Sprintf("fragment %d at %d %x", b.Fragment.Fragment, b.Fragment.Version, wire.Digest(m.Payload)))
		case *wire.ToLearner_Verdict:
			s.hear(part, fmt.Sprintf("verdict %v %x", b.Verdict, wire.Digest(m.Payload)))
		}
		if part == 0 {
			if err := s.island.Send(m); err != nil {
				return
			}
		}
	}
}

// hear ends the island when a host hears something else than the first.
func (s *spread) hear(part int, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard[part] = append(s.heard[part], what)
	n := len(s.heard[part]) - 1
	for other := range hostCount {
		if n < len(s.heard[other]) && s.heard[other][n] != what {
			s.island.Close(fmt.Sprintf("host %d heard %q, host %d %q", part, what, other, s.heard[other][n]))
		}
	}
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// Received passes on what the island says, its contributions in parts, the last host first.
func (s *spread) Received(_ *transport.Peer, m transport.Up) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch b := m.Body.(type) {
	case *wire.FromLearner_Contribution:
		s.contribute(b.Contribution, m.Payload)
	case *wire.FromLearner_Ready:
		for _, c := range s.conns {
			c.Send(transport.Up{FromLearner: &wire.FromLearner{Body: m.Body}}) //nolint:errcheck // the run will miss it
		}
	default:
		s.conns[0].Send(transport.Up{FromLearner: &wire.FromLearner{Body: m.Body}}) //nolint:errcheck // the run will miss it
	}
}

func (s *spread) contribute(c *wire.Contribution, payload []byte) {
	f := s.fragments[c.Fragment]
	delta := make([]float32, f.Size)
	if err := wire.DecodeF32(delta, payload); err != nil {
		panic(err)
	}
	s.sent++
	for part := hostCount - 1; part >= 0; part-- {
		if s.act == actLoses && s.sent == 5 && part == hostCount-1 {
			s.conns[part].Close() //nolint:errcheck // it is to be lost
			continue
		}
		boxes := s.within[part][c.Fragment]
		own := &wire.Contribution{Fragment: c.Fragment, Sequence: c.Sequence, ToStep: c.ToStep}
		if part == 0 {
			own = c
		}
		own.Part, own.Parts, own.Boxes = uint32(part), hostCount, layout.BoxesToWire(boxes)
		if part > 0 && len(boxes) == 0 {
			continue
		}
		up := transport.Up{
			FromLearner: &wire.FromLearner{Body: &wire.FromLearner_Contribution{Contribution: own}},
			Payload:     layout.NewFrame(f).Append(nil, delta, boxes...),
		}
		for range 1 + s.sent%2 { // half of all come twice
			s.conns[part].Send(up) //nolint:errcheck // the run will miss it
		}
	}
}

// Gone ends all hosts.
func (s *spread) Gone(*transport.Peer, error) {
	for _, c := range s.conns {
		if c != nil {
			c.Close() //nolint:errcheck // it is over
		}
	}
}

// An island of three hosts, whose parts come in any order and twice, trains the same to
// the bit as one that sends its contributions whole.
func TestAnIslandOfThreeHosts(t *testing.T) {
	t.Parallel()
	run := alone(t, nil)
	want, _ := straight(t, run)
	dir := folder(t)
	c := begin(t, dir, run, false, nil, faking("only-1="+actHosts))
	c.finish()
	got := newCurve()
	got.add(t, c)
	got.weights = saved(t, dir, "model.safetensors", run)
	got.equal(t, want)
}

// What hosts hold must cover the model exactly once; else the island is turned away and
// told which tensor, which element and which hosts.
func TestLayoutThatDoesNotCover(t *testing.T) {
	t.Parallel()
	run := alone(t, nil)
	tensors := run.Table()
	if len(tensors[1].Shape) == 2 || len(tensors[7].Shape) != 2 {
		t.Fatalf("tensors 1 and 7 are %v and %v", tensors[1], tensors[7])
	}
	for act, want := range map[string]string{
		actGap:   fmt.Sprintf("the layout of island only: tensor %s [%d]: element [%d] is in no piece", tensors[1].Name, tensors[1].Size(), tensors[1].Size()-1),
		actTwice: fmt.Sprintf("the layout of island only: tensor %s %v: element [0 0] is in two pieces", tensors[7].Name, tensors[7].Shape),
	} {
		t.Run(act, func(t *testing.T) {
			t.Parallel()
			c := begin(t, folder(t), run, false, nil, faking("only-1="+act))
			if _, err := c.wait(); err == nil {
				t.Fatal("it trained")
			}
			gone := recorded[ledger.IslandGone](c)
			if len(gone) == 0 || !strings.HasPrefix(gone[0].Reason, want) {
				t.Errorf("it went for %+v, want %q", gone, want)
			}
			if act == actTwice && !strings.Contains(gone[0].Reason, "(hosts 1 and 2)") {
				t.Errorf("which hosts? %s", gone[0].Reason)
			}
		})
	}
}

// Danger: one host of an island dies and the rest of it goes on with half a model. The whole
// incarnation ends, and the next one trains what is missing.
func TestLossOfOneHost(t *testing.T) {
	t.Parallel()
	c := begin(t, folder(t), tiny(t, nil), false, nil, faking("fast-1="+actLoses))
	c.finish()
	for _, g := range recorded[ledger.IslandGone](c) {
		if g.Incarnation == 1 && strings.Contains(g.Reason, "its host 2 is gone") {
			return
		}
	}
	t.Errorf("no island lost its host: %+v", recorded[ledger.IslandGone](c))
}
