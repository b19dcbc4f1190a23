package island

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/mistura-project/mistura/internal/corpus"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/store"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// nonceFile is where the coordinator of a run folder writes its nonce.
const nonceFile = "coordinator.json"

// atHand says whether the run folder is within reach of this process: the nonce of the
// welcome stands there. That the path exists proves nothing, for another host may have a
// folder of that name.
func atHand(w *wire.Welcome) bool {
	if w.Nonce == "" {
		return true // the coordinator has nothing to prove: it is a parent
	}
	f, err := os.Open(filepath.Join(w.RunDir, nonceFile))
	if err != nil {
		return false
	}
	defer f.Close()
	var c struct {
		Nonce string `json:"nonce"`
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<16))
	return err == nil && json.Unmarshal(data, &c) == nil && c.Nonce == w.Nonce
}

// openStore gives the run's store: its folder, or the coordinator's calls where that is
// on another host.
func openStore(w *wire.Welcome, join wire.Join) (store.Store, error) {
	if atHand(w) {
		return store.OpenFolder(w.RunDir)
	}
	calls, err := transport.Call(join)
	if err != nil {
		return nil, err
	}
	return &remote{calls: calls, incarnation: join.Incarnation, address: join.Address}, nil
}

// closeStore lets go of what openStore has opened; nil: nothing.
func closeStore(st store.Store) {
	if away, ok := st.(*remote); ok {
		away.calls.Close()
	}
}

// remote is the store of a run on another host. It holds what an island needs: to put
// its state there and to open it again.
type remote struct {
	calls       *transport.Calls
	incarnation uint64
	address     string
}

var _ store.Store = (*remote)(nil)

var errRemote = errors.New("only the coordinator's host can do that")

// Create implements store.Store; an island creates nothing.
func (r *remote) Create(context.Context, string, []byte) error { return errRemote }

// Put implements store.Store. The digest is this side's, and must be the other's.
func (r *remote) Put(ctx context.Context, name string, write func(io.Writer) error) (store.Object, error) {
	sum, n := sha256.New(), int64(0)
	reply, err := r.calls.Store(ctx, name, r.incarnation, func(w io.Writer) error {
		return write(io.MultiWriter(w, sum, counter{&n}))
	})
	if err != nil {
		return store.Object{}, err
	}
	o := store.Object{Name: name, Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}
	if reply.SizeBytes != uint64(n) || reply.Digest != o.SHA256 {
		return o, fmt.Errorf("put %s: %d bytes of digest %s were sent, %d of %s arrived", name, n, o.SHA256, reply.SizeBytes, reply.Digest)
	}
	return o, nil
}

type counter struct{ n *int64 }

func (c counter) Write(p []byte) (int, error) {
	*c.n += int64(len(p))
	return len(p), nil
}

// Open implements store.Store: the object is fetched whole into a temporary file without
// a name.
func (r *remote) Open(ctx context.Context, name string) (store.File, int64, error) {
	f, err := os.CreateTemp("", "mistura-state-*")
	if err != nil {
		return nil, 0, err
	}
	os.Remove(f.Name()) //nolint:errcheck // then it stays until the system clears its folder
	n, err := r.calls.Fetch(ctx, name, 0, math.MaxInt64, f)
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, n, nil
}

// List implements store.Store; an island lists nothing.
func (r *remote) List(context.Context, string) ([]store.Object, error) { return nil, errRemote }

// Delete implements store.Store; an island deletes nothing.
func (r *remote) Delete(context.Context, string) error { return errRemote }

// FreeBytes implements store.Store.
func (r *remote) FreeBytes(context.Context) (int64, bool, error) { return 0, false, nil }

// Location implements store.Store.
func (r *remote) Location() string { return "coordinator " + r.address }

// openData gives the run's tokens: a folder that the user named, the run's own where it
// is at hand, or a copy that is fetched once and kept by its digest.
func openData(ctx context.Context, w *wire.Welcome, join wire.Join, own string) (*corpus.Set, error) {
	if own != "" {
		return namedData(ctx, own, w.DataDigest)
	}
	if atHand(w) {
		return corpus.Open(w.DataDir)
	}
	dir, err := cacheFolder(w.DataDigest)
	if err != nil {
		return nil, err
	}
	if set, err := corpus.Open(dir); err == nil {
		if set.Info.Digest == w.DataDigest && set.Verify(ctx) == nil {
			return set, nil
		}
		set.Close() //nolint:errcheck // it is fetched again
	}
	calls, err := transport.Call(join)
	if err != nil {
		return nil, err
	}
	defer calls.Close()
	err = corpus.Copy(ctx, dir, w.DataDigest, func(name string, limit int64, to io.Writer) error {
		_, err := calls.Fetch(ctx, "data/"+name, 0, limit, to)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fetching the run's tokens: %w", err)
	}
	return corpus.Open(dir)
}

// namedData opens a folder of tokens that must be the run's.
func namedData(ctx context.Context, dir, digest string) (*corpus.Set, error) {
	set, err := corpus.Open(dir)
	if err != nil {
		return nil, err
	}
	if set.Info.Digest != digest {
		set.Close() //nolint:errcheck // it is of no use
		return nil, &fault.Input{
			Where: "--data", Value: dir, Problem: fmt.Sprintf("its tokens have digest %s, the run's have %s", set.Info.Digest, digest),
			Next: "leave it out to have the run's tokens fetched, or give the data folder of this run",
		}
	}
	if err := set.Verify(ctx); err != nil {
		set.Close() //nolint:errcheck // it is damaged
		return nil, err
	}
	return set, nil
}

// DataDigest is that of a folder of tokens, for Hello.
func DataDigest(dir string) ([]byte, error) {
	set, err := corpus.Open(dir)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	return hex.DecodeString(set.Info.Digest)
}

// cacheFolder is where tokens of a digest are kept between runs.
func cacheFolder(digest string) (string, error) {
	if b, err := hex.DecodeString(digest); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("the coordinator names data of digest %q, which is none", digest)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "mistura", "data", digest), nil
}

// measurePatience bounds the measurement of the way: a slow one is slow enough without.
const measurePatience = 30 * time.Second

// tellWay says once how the coordinator's host is reached, if it is another one.
func tellWay(ctx context.Context, st store.Store, join wire.Join, log *slog.Logger) {
	if _, away := st.(*remote); !away {
		return
	}
	way, err := measure(ctx, join)
	if err != nil {
		log.Warn("way_not_measured", "err", err)
		return
	}
	log.Info("reached", "way", way)
}

// measure gives in words how the coordinator is reached and how fast the way is.
func measure(ctx context.Context, join wire.Join) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, measurePatience)
	defer cancel()
	local, device := transport.Route(join.Address)
	calls, err := transport.Call(join)
	if err != nil {
		return "", err
	}
	defer calls.Close()
	rates, err := calls.Measure(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("TCP from %s (interface %s) to %s: %.1f MB/s down, %.1f MB/s up",
		cmp.Or(local, "an unknown address"), cmp.Or(device, "unknown"), join.Address, rates.Down/1e6, rates.Up/1e6), nil
}
