package island

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/gathered"
	"github.com/mistura-project/mistura/internal/layout"
	"github.com/mistura-project/mistura/internal/model"
	"github.com/mistura-project/mistura/internal/outer"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// keeping is an external trainer's state on its way to or from its ranks. Each rank gives
// and takes its own pieces; what lies in the file is whole, so that another number of
// ranks, another layout or another engine can go on with it.
type keeping struct {
	holding *holding
	table   []model.Tensor
	slots   []string // that the ranks can give and take, weights first

	mu   sync.Mutex
	news chan struct{} // closed and made anew when something is to be saved
	out  *outgoing     // nil: nothing is being saved
	in   *incoming     // nil: nothing is being restored
	kept keptFiles
}

// outgoing is a state that is being saved.
type outgoing struct {
	checkpoint uint64
	flat       map[string][]float32 // by slot, in the order of the table; nil: this host has boxes only
	capture    *capture
	given      map[string][]bool // by slot and rank
	done       func(error)
}

// incoming is a state that is being restored.
type incoming struct {
	state *savedState
	given map[string][]bool // by slot and rank: gathered anew, and found equal
	done  func(*wire.Restored, error)
}

// newKeeping is for the slots that every rank has.
func newKeeping(h *holding, table []model.Tensor) *keeping {
	k := &keeping{holding: h, table: table, slots: []string{weightsSlot}, news: make(chan struct{})}
	for _, slot := range slotNames()[1:] {
		if slices.Contains(h.control().Hello.Slots, slot) {
			k.slots = append(k.slots, slot)
		}
	}
	return k
}

// none given yet, by slot and rank.
func (k *keeping) none(slots []string) map[string][]bool {
	out := map[string][]bool{}
	for _, slot := range slots {
		out[slot] = make([]bool, len(k.holding.ranks))
	}
	return out
}

// all: every rank has given every slot.
func all(given map[string][]bool) bool {
	for _, ranks := range given {
		if slices.Contains(ranks, false) {
			return false
		}
	}
	return true
}

// eachPiece calls f for what a rank holds: a box of a tensor and its areas.
func (k *keeping) eachPiece(r *attach.Rank, f func(t model.Tensor, box layout.Box, in, out []float32) error) error {
	h, i := k.holding, k.holding.place(r)
	for p := range h.fragments {
		for n, piece := range h.pieces[i][p] {
			box := h.boxes[i][p][n]
			if err := f(h.fragments[p].Tensors[box.Tensor], box, r.In[piece], r.Out[piece]); err != nil {
				return err
			}
		}
	}
	return nil
}

// slot takes what a rank has put into its out-area. Finish is what is left to do once all
// have, and gives what follows from it on the runner's goroutine.
func (k *keeping) slot(r *attach.Rank, m *attach.Slot) (finish func() func(), err error) {
	k.mu.Lock()
	out, in := k.out, k.in
	k.mu.Unlock()
	switch {
	case m.Checkpoint != 0 && out != nil && out.checkpoint == m.Checkpoint && out.given[m.Slot] != nil:
		finish, err = k.collect(out, r, m)
	case m.Checkpoint == 0 && in != nil && in.given[m.Slot] != nil:
		finish, err = k.compare(in, r, m)
	default:
		err = senseless("slot %.40q for checkpoint %d, which was not asked for", m.Slot, m.Checkpoint)
	}
	if err != nil {
		return nil, err
	}
	return finish, r.Send(&attach.Taken{})
}

// collect copies a rank's pieces of a slot to their places.
func (k *keeping) collect(out *outgoing, r *attach.Rank, m *attach.Slot) (finish func() func(), err error) {
	k.eachPiece(r, func(t model.Tensor, box layout.Box, _, area []float32) error { //nolint:errcheck // none fails
		switch {
		case area == nil:
		case out.flat != nil:
			scatterBox(out.flat[m.Slot], t, box, area)
		default:
			k.mu.Lock()
			defer k.mu.Unlock()
			tensor, mark := boxed(m.Slot, t, box, len(out.capture.boxes), slices.Clone(area))
			out.capture.tensors, out.capture.boxes = append(out.capture.tensors, tensor), append(out.capture.boxes, mark)
		}
		return nil
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := &out.capture.counters; r.Hello.Control() {
		c.AdamSteps, c.LossScale, c.GoodSteps = m.Steps, float32(m.Scale), m.ScaleSteps
	}
	out.given[m.Slot][k.holding.place(r)] = true
	if k.out != out || !all(out.given) {
		return nil, nil
	}
	k.out = nil
	return func() func() {
		err := out.finish(k)
		return func() { out.done(err) }
	}, nil
}

// finish names the tensors, and refuses values that no checkpoint may hold.
func (out *outgoing) finish(k *keeping) error {
	for _, slot := range k.slots {
		if out.flat != nil {
			out.capture.tensors = append(out.capture.tensors, slotTensors(slot, k.table, out.flat[slot])...)
		}
	}
	for _, t := range out.capture.tensors {
		if !outer.Finite(t.F32) {
			slot, _, _ := strings.Cut(t.Name, ".")
			return fmt.Errorf("%s hold a value that is not finite", slot)
		}
	}
	return nil
}

// load puts a rank's pieces of a slot into its in-area.
func (k *keeping) load(r *attach.Rank, m *attach.Load) error {
	k.mu.Lock()
	in := k.in
	k.mu.Unlock()
	if in == nil || in.given[m.Slot] == nil {
		return senseless("slot %.40q, which was not to be restored", m.Slot)
	}
	boxes := &boxReader{file: in.state.file}
	err := k.eachPiece(r, func(t model.Tensor, box layout.Box, area, _ []float32) error {
		return in.state.piece(boxes, m.Slot, t, box, area)
	})
	if err != nil {
		return fmt.Errorf("saved state: %w", err)
	}
	return r.Send(&attach.Loaded{})
}

// piece is what a rank is to have of a slot's tensor: of the file, or of the weights that
// were composed of it and of the model's.
func (s *savedState) piece(boxes *boxReader, slot string, t model.Tensor, box layout.Box, dst []float32) error {
	if slot == weightsSlot {
		gatherBox(dst, s.weights, t, box)
		return nil
	}
	return boxes.read(slot, t, box, dst)
}

// compare looks at what a rank has gathered anew from where it loaded it: bit for bit it
// must be what is in the state.
func (k *keeping) compare(in *incoming, r *attach.Rank, m *attach.Slot) (finish func() func(), err error) {
	if err := k.unlike(in.state, r, m.Slot); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	in.given[m.Slot][k.holding.place(r)] = true
	if k.in != in || !all(in.given) {
		return nil, nil
	}
	k.in = nil
	return func() func() {
		report, err := k.report(in)
		return func() { in.done(report, err) }
	}, nil
}

// unlike names the first tensor of which a rank does not hold what it has loaded.
func (k *keeping) unlike(s *savedState, r *attach.Rank, slot string) error {
	boxes := &boxReader{file: s.file}
	var want []float32
	return k.eachPiece(r, func(t model.Tensor, box layout.Box, _, area []float32) error {
		if area == nil {
			return nil
		}
		want = reuse(want, box.Size())
		if err := s.piece(boxes, slot, t, box, want); err != nil {
			return fmt.Errorf("saved state: %w", err)
		}
		for i, v := range want {
			if math.Float32bits(v) != math.Float32bits(area[i]) {
				return &fault.Input{
					Where: fmt.Sprintf("rank %d", r.Hello.Rank), Value: slot + "." + t.Name, Problem: fmt.Sprintf("holds %v where %v was loaded (element %d of its piece)", area[i], v, i),
					Next: "the adapter must give and take " + slot + " in fp32, and pieces where it says they are",
				}
			}
		}
		return nil
	})
}

// report is made of the file, which every rank was found to hold.
func (k *keeping) report(in *incoming) (*wire.Restored, error) {
	now, file := map[string][]float32{}, in.state.file
	for slot := range in.given {
		if now[slot] = in.state.weights; slot == weightsSlot {
			continue
		}
		last := k.table[len(k.table)-1]
		now[slot] = make([]float32, last.Offset+last.Size())
		if err := file.read(slot, k.table, now[slot]); err != nil {
			return nil, err
		}
	}
	for _, slot := range slotNames()[1:] {
		switch has := file.has(slot); {
		case has && in.given[slot] == nil:
			file.remark("%s of the state are not used: the trainer keeps none", slot)
		case !has && slices.Contains(k.slots, slot):
			file.remark("%s begin at zero: the state has none", slot)
		}
	}
	return in.state.report(k.table, now)
}

// save asks the ranks for their state at the next boundary.
func (x *external) save(c *capture, done func(error)) {
	k := x.keeping
	if !k.expect(c, &x.reserve, done) {
		done(errors.New("the state before is still being copied"))
		return
	}
	x.order(attach.Action{Do: attach.Save, Keeping: &attach.Keeping{Checkpoint: c.checkpoint, Slots: k.slots, Folder: c.folder}})
}

// expect begins to collect what ranks give for a checkpoint; false: another one is not
// collected yet.
func (k *keeping) expect(c *capture, memory *reserve, done func(error)) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.out != nil {
		return false
	}
	out := &outgoing{checkpoint: c.checkpoint, given: k.none(k.slots), capture: c, done: done}
	if k.holding.hosts() == 1 {
		out.flat = map[string][]float32{}
		last := k.table[len(k.table)-1]
		vectors, release := memory.room(last.Offset + last.Size())
		for i, slot := range slotNames() {
			if slices.Contains(k.slots, slot) {
				out.flat[slot] = vectors[i]
			}
		}
		c.release = release
	} else {
		c.boxes, c.slots = []gathered.Mark{}, k.slots
	}
	c.awaitFiles = k.kept.expect(c.checkpoint, len(k.holding.ranks))
	k.out = out
	close(k.news)
	k.news = make(chan struct{})
	return true
}

// drop gives up what was to be saved and never was.
func (k *keeping) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.out = nil
}

// expected waits until a checkpoint is to be saved here: a rank may hear of it sooner than
// a host beside the first.
func (k *keeping) expected(checkpoint uint64) error {
	for {
		k.mu.Lock()
		there, news := k.out != nil && k.out.checkpoint == checkpoint, k.news
		k.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-news:
		case <-k.holding.life.Done():
			return context.Cause(k.holding.life)
		}
	}
}

// restore orders what is saved into the ranks.
func (x *external) restore(s *savedState, done func(*wire.Restored, error)) {
	slots := x.keeping.begin(s, done)
	if len(slots) == 0 && len(s.files) == 0 {
		return
	}
	keep := &attach.Keeping{
		Slots: slots, Steps: s.file.adamSteps(), Scale: attach.Number(s.file.counters.LossScale), ScaleSteps: s.file.counters.GoodSteps,
	}
	for _, f := range s.files {
		keep.Files = append(keep.Files, attach.File{Rank: int(f.Rank), Path: f.Path})
	}
	x.order(attach.Action{Do: attach.Restore, Keeping: keep})
}

// begin makes a state ready to be taken, and says which of its slots the ranks can take.
// Without any it is done.
func (k *keeping) begin(s *savedState, done func(*wire.Restored, error)) []string {
	var slots []string
	for _, slot := range k.slots {
		if s.file.has(slot) && !(s.momentsOnly && slot == weightsSlot) {
			slots = append(slots, slot)
		}
	}
	in := &incoming{state: s, given: k.none(slots), done: done}
	if len(slots) == 0 {
		done(k.report(in))
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.in = in
	return slots
}

// folderFor is where a trainer puts what it saves itself: beside its state, where that is a folder.
func folderFor(st store.Store, object string) string {
	folder, ok := st.(*store.Folder)
	if !ok {
		return ""
	}
	return filepath.Join(folder.Location(), filepath.FromSlash(strings.TrimSuffix(object, ".safetensors")))
}

// keptFiles are what ranks have saved themselves.
type keptFiles struct {
	mu    sync.Mutex
	of    uint64 // checkpoint
	paths map[int]string
	ranks int
	all   chan struct{} // closed when every rank has said it
}

// expect begins a checkpoint. What it gives waits until every rank has said what it kept,
// and takes the digests.
func (k *keptFiles) expect(checkpoint uint64, ranks int) func(context.Context) ([]*wire.StateFile, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of, k.paths, k.ranks, k.all = checkpoint, map[int]string{}, ranks, make(chan struct{})
	paths, complete := k.paths, k.all
	return func(ctx context.Context) ([]*wire.StateFile, error) {
		select {
		case <-complete:
			return digestFiles(ctx, paths)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// say notes what one rank kept.
func (k *keptFiles) say(r *attach.Rank, m *attach.Kept) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m.Path != "" && !filepath.IsAbs(m.Path) {
		return senseless("kept %.200q, which is no absolute path", m.Path)
	}
	if _, twice := k.paths[r.Hello.Rank]; m.Checkpoint != k.of || k.of == 0 || twice {
		return senseless("kept for checkpoint %d, which was not asked for", m.Checkpoint)
	}
	k.paths[r.Hello.Rank] = m.Path
	if len(k.paths) == k.ranks {
		close(k.all)
	}
	return nil
}
