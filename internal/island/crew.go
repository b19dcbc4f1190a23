package island

import (
	"context"
	"fmt"
	"slices"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/fragment"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/wire"
)

// crew is the ranks of an external trainer on their way into the run.
type crew struct {
	*attach.Crew
	ranks    []*attach.Rank
	welcomes []*attach.Welcome
	welcomed bool
}

// meet waits for the ranks and gives the hello of their island.
func (c *crew) meet(ctx context.Context) (*wire.Hello, error) {
	ranks, err := c.Gather(ctx)
	if err != nil {
		return nil, err
	}
	c.ranks = ranks
	h := ranks[0].Hello
	hello := &wire.Hello{
		Island: h.Name, Engine: h.Engine, Device: h.Device, Part: uint32(h.Part), Parts: uint32(h.Parts), Ranks: uint32(h.World),
		OwnData: h.OwnData, OwnRate: h.OwnRate, NoGate: h.NoGate,
	}
	if h.Parts > 1 {
		hello.Pieces = c.sent()
	} else {
		hello.TableDigest = c.digest()
	}
	return hello, nil
}

// digest names the trainer's model by all that its ranks know of it.
func (c *crew) digest() []byte {
	var shapes []wire.TensorShape
	for _, t := range c.tensors() {
		shapes = append(shapes, wire.TensorShape{Name: t.Name, Shape: t.Shape})
	}
	return wire.TableDigest(shapes)
}

// sent is what this host sends.
func (c *crew) sent() []*wire.Piece {
	var names []string
	var boxes []layout.Box
	number := map[string]int{}
	for _, r := range c.ranks {
		for _, p := range r.Hello.Pieces {
			if p.Replica != 0 {
				continue
			}
			n, known := number[p.Name]
			if !known {
				n, names = len(names), append(names, p.Name)
				number[p.Name] = n
			}
			boxes = append(boxes, layout.Box{Tensor: n, Offset: p.Offset, Extent: p.Extent})
		}
	}
	var out []*wire.Piece
	for _, b := range layout.Join(boxes) {
		out = append(out, &wire.Piece{Tensor: names[b.Tensor], Offset: unsigned(b.Offset), Extent: unsigned(b.Extent)})
	}
	return out
}

// unsigned turns what is below 0 into more than there is of anything.
func unsigned(values []int) []uint64 {
	out := make([]uint64, len(values))
	for i, v := range values {
		out[i] = uint64(v)
	}
	return out
}

// hold checks what the ranks have told of themselves against the run, and makes their memory.
func (c *crew) hold(life context.Context, w *wire.Welcome, r *runner, join wire.Join) (*holding, error) {
	if err := c.fits(r); err != nil {
		return nil, err
	}
	h, err := newHolding(life, c.ranks, r.run.Table(), fragment.Split(r.run.Table(), r.run.Exchange.Fragments))
	if err != nil {
		return nil, err
	}
	run, err := r.run.JSON()
	if err != nil {
		return nil, fmt.Errorf("run file as JSON: %w", err)
	}
	c.welcomes, err = h.share(attach.Welcome{
		Protocol: attach.Protocol, Version: r.version, RunID: join.RunID, Island: r.island, Incarnation: join.Incarnation, Era: join.Era,
		Run: run, Back: r.back(join),
	})
	return h, err
}

// back is the join string of an island that comes back under its name, whatever the one that
// it came by was good for.
func (r *runner) back(join wire.Join) string {
	if !r.outside {
		return ""
	}
	return wire.Join{Address: join.Address, RunID: join.RunID, Authority: join.Authority, Island: r.island, Secret: join.Secret}.String()
}

// fits refuses a trainer of another model, or one that brings data which the run does
// not expect, or the other way round.
func (c *crew) fits(r *runner) error {
	first := c.ranks[0].Hello
	if first.OwnData != r.run.Data.Own {
		problem, next := "the run's samples are leased, and the trainer brings its own data", "call mistura.join without own_data, or start a run with data.own: true"
		if r.run.Data.Own {
			problem, next = "the run expects that islands bring their own data", "call mistura.join with own_data=True"
		}
		return &fault.Input{Where: "own_data", Value: fmt.Sprint(first.OwnData), Problem: problem, Next: next}
	}
	table, known := r.run.Table(), c.tensors()
	if first.Parts > 1 { // other hosts know the other tensors
		here := map[string]bool{}
		for _, t := range known {
			here[t.Name] = true
		}
		table = slices.DeleteFunc(table, func(t model.Tensor) bool { return !here[t.Name] })
	}
	return model.Unlike(table, known)
}

// tensors are those that any rank knows of.
func (c *crew) tensors() (out []model.Named) {
	seen := map[string]bool{}
	for _, r := range c.ranks {
		for _, t := range r.Hello.Tensors {
			if !seen[t.Name] {
				seen[t.Name] = true
				out = append(out, model.Named{Name: t.Name, Shape: t.Shape, State: t.State, Tied: t.Tied})
			}
		}
	}
	return out
}

// welcome lets the ranks in: from here on they are heard.
func (c *crew) welcome(ctx context.Context, restored bool, position int64, hear func(*attach.Rank, any) error) error {
	c.Serve(hear)
	c.welcomed = true
	for i, r := range c.ranks {
		w := c.welcomes[i]
		w.Restored, w.Position = restored, position
		if err := r.Send(w); err != nil {
			return fmt.Errorf("welcoming rank %d: %w", r.Hello.Rank, err)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, joinPatience, fmt.Errorf("not every rank has mapped its memory within %v", joinPatience))
	defer cancel()
	for _, r := range c.ranks {
		if err := r.Settled(ctx); err != nil {
			return err
		}
	}
	return nil
}

// boxesOf resolves the pieces of a rank.
func boxesOf(h *attach.Hello, table []model.Tensor) ([]layout.Box, error) {
	pieces := make([]layout.Piece, len(h.Pieces))
	for i, p := range h.Pieces {
		pieces[i] = layout.Piece{Name: p.Name, Offset: p.Offset, Extent: p.Extent}
	}
	return layout.Resolve(table, pieces)
}
