package island

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// seed sends the trainer's weights as version 0 of the run, if the trainer says that they
// are and the run has none yet.
func (c *crew) seed(ctx context.Context, join wire.Join, island string, log *slog.Logger) error {
	first := c.ranks[0].Hello
	if !first.Seed {
		return nil
	}
	if first.Parts > 1 {
		return &fault.Input{
			Where: "seed", Value: fmt.Sprintf("%d hosts", first.Parts), Problem: "the first weights come from an island on one host",
			Next: "mark an island on one host, or begin from a .safetensors file (model.from)",
		}
	}
	calls, err := transport.Call(join)
	if err != nil {
		return err
	}
	defer calls.Close()
	err = calls.SeedWanted(ctx, island)
	if errors.Is(err, transport.ErrSeeded) {
		log.Info("not_seeded", "reason", "the run has its first weights already")
		return nil
	}
	if err != nil {
		return err
	}
	s, err := c.lend(ctx)
	if err != nil {
		return err
	}
	defer s.release()
	digest, err := calls.Seed(ctx, island, s.write)
	if err != nil {
		return err
	}
	log.Info("seeded", "tensors", len(s.table), "digest", digest)
	return nil
}

// brought is the weights of all ranks in memory that they share with this process.
type brought struct {
	table  []model.Tensor
	boxes  [][]layout.Box // by rank and piece
	pieces [][][]float32  // the same; nil: not sent
	free   []func()
}

func (b *brought) release() {
	for _, free := range b.free {
		free()
	}
}

// lend checks that what the ranks send is the whole model, and asks them for it.
func (c *crew) lend(ctx context.Context) (*brought, error) {
	b := &brought{}
	at := 0
	for _, t := range c.tensors() {
		tensor := model.Tensor{Name: t.Name, Shape: t.Shape, Kind: model.Foreign, Offset: at}
		if t.State {
			tensor.Kind = model.State
		}
		at += tensor.Size()
		b.table = append(b.table, tensor)
	}
	var out sent
	for _, r := range c.ranks {
		boxes, err := boxesOf(r.Hello, b.table)
		if err != nil {
			return nil, err
		}
		b.boxes = append(b.boxes, boxes)
		out.add(r, boxes)
	}
	if err := out.cover(b.table); err != nil {
		return nil, err
	}
	return b, b.ask(ctx, c.ranks)
}

// ask has all ranks copy their pieces at the same time.
func (b *brought) ask(ctx context.Context, ranks []*attach.Rank) error {
	b.pieces, b.free = make([][][]float32, len(ranks)), make([]func(), len(ranks))
	problems := make([]error, len(ranks))
	var wg sync.WaitGroup
	for i, r := range ranks {
		sizes := make([]int, len(b.boxes[i]))
		for n, box := range b.boxes[i] {
			sizes[n] = box.Size()
		}
		wg.Go(func() { b.pieces[i], b.free[i], problems[i] = r.Lend(ctx, sizes) })
	}
	wg.Wait()
	err := errors.Join(problems...)
	if err != nil {
		for i, free := range b.free {
			if free == nil {
				b.free[i] = func() {}
			}
		}
		b.release()
	}
	return err
}

// write writes a safetensors file, tensor by tensor.
func (b *brought) write(w io.Writer) error {
	type source struct {
		box    layout.Box
		values []float32
	}
	sources := make([][]source, len(b.table))
	for i, boxes := range b.boxes {
		for n, box := range boxes {
			if values := b.pieces[i][n]; values != nil {
				sources[box.Tensor] = append(sources[box.Tensor], source{box, values})
			}
		}
	}
	var streams []store.Stream
	state := []string{}
	for i, t := range b.table {
		if t.Kind == model.State {
			state = append(state, t.Name)
		}
		streams = append(streams, store.Stream{Name: t.Name, Dtype: "F32", Shape: t.Shape, Write: func(w io.Writer) error {
			whole := make([]float32, t.Size())
			for _, s := range sources[i] {
				from := 0
				for at, n := range s.box.Runs(t.Shape) {
					copy(whole[at:at+n], s.values[from:from+n])
					from += n
				}
			}
			_, err := w.Write(wire.AppendF32(nil, whole))
			return err
		}})
	}
	names, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return store.WriteStreams(w, streams, map[string]string{store.StateKey: string(names)})
}
