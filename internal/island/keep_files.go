package island

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/mistura-project/mistura/internal/attach"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/wire"
)

// keptFiles are what ranks have saved themselves.
type keptFiles struct {
	mu    sync.Mutex
	of    uint64 // checkpoint
	paths map[int]string
	ranks int
	all   chan struct{} // closed when every rank has said it
}

// folderFor is where a trainer puts what it saves itself: beside its state, where that is a folder.
func folderFor(st store.Store, object string) string {
	folder, ok := st.(*store.Folder)
	if !ok {
		return ""
	}
	return filepath.Join(folder.Location(), filepath.FromSlash(strings.TrimSuffix(object, ".safetensors")))
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

// digestFiles is what the checkpoint says of files that ranks saved themselves; ranks
// that saved none are left out.
func digestFiles(ctx context.Context, paths map[int]string) ([]*wire.StateFile, error) {
	var out []*wire.StateFile
	for _, rank := range slices.Sorted(maps.Keys(paths)) {
		if paths[rank] == "" {
			continue
		}
		f, err := os.Open(paths[rank])
		if err != nil {
			return nil, fmt.Errorf("what rank %d saved: %w", rank, err)
		}
		info, err := f.Stat()
		var digest string
		if err == nil {
			digest, err = store.Digest(ctx, f, info.Size())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("what rank %d saved: %w", rank, err)
		}
		out = append(out, &wire.StateFile{Rank: uint32(rank), Path: paths[rank], SizeBytes: uint64(info.Size()), Digest: digest})
	}
	return out, nil
}

// checkFiles compares what a trainer saved itself with what the checkpoint says of it.
func checkFiles(ctx context.Context, files []*wire.StateFile) error {
	for _, want := range files {
		if problem := store.CompareFile(ctx, want.Path, int64(want.SizeBytes), want.Digest); problem != "" {
			return &fault.Input{Where: fmt.Sprintf("state of rank %d", want.Rank), Value: want.Path, Problem: problem, Next: "put the file back as the trainer saved it, or resume from another checkpoint"}
		}
	}
	return nil
}

// within are the files that this host is to compare: all of an island on one host, else those that
// ranks of the same numbers had saved, for the others lie on other hosts.
func (h *holding) within(files []*wire.StateFile) (out []*wire.StateFile) {
	for _, f := range files {
		here := slices.ContainsFunc(h.ranks, func(r *attach.Rank) bool { return r.Hello.Rank == int(f.Rank) })
		if here || h.hosts() == 1 {
			out = append(out, f)
		}
	}
	return out
}
