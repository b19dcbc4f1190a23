package serve

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/ledger"
	"github.com/mistura-project/mistura/internal/runfile"
	"github.com/mistura-project/mistura/internal/transport"
	"github.com/mistura-project/mistura/internal/wire"
)

// CoordinatorName is the object that says where the run is coordinated.
const CoordinatorName = "coordinator.json"

// coordinator is the content of CoordinatorName.
type coordinator struct {
	Address   string   `json:"address"` // on its host, without TLS
	RunID     string   `json:"run_id"`
	Era       uint32   `json:"era"`
	PID       int      `json:"pid"`
	Host      string   `json:"host"`
	Listen    string   `json:"listen,omitempty"`    // as --listen has it, with the port that was opened; empty: other hosts cannot reach it
	Reached   []string `json:"reached,omitempty"`   // host:port for other hosts, over TLS
	Authority string   `json:"authority,omitempty"` // fingerprint of the run's
	Nonce     string   `json:"nonce"`               // who finds it here has the run folder on its host
}

// join is how to ask it something.
func (c coordinator) join() wire.Join {
	j := wire.Join{Address: c.Address, RunID: c.RunID}
	if name, err := os.Hostname(); len(c.Reached) > 0 && (err != nil || name != c.Host) {
		j.Address, j.Authority = c.Reached[0], c.Authority
	}
	return j
}

// openPorts opens the ports for islands, the same ones again once there were some: on this
// host in the clear, to others over TLS. Then it says on the store who coordinates here.
func (op *opened) openPorts(ctx context.Context) ([]net.Listener, error) {
	local, err := listenAt(orElse(op.address, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("opening a port for the islands: %w", err)
	}
	listeners := []net.Listener{local}
	if op.listening != "" {
		public, err := op.listenPublic()
		if err != nil {
			local.Close()
			return nil, err
		}
		listeners = append(listeners, public)
		op.public = public.Addr().String()
	}
	op.address, op.nonce = local.Addr().String(), randomName(16)
	if err := op.sayWhere(ctx); err != nil {
		for _, l := range listeners {
			l.Close()
		}
		return nil, fmt.Errorf("saying who coordinates: %w", err)
	}
	return listeners, nil
}

// listen opens the ports and serves.
func (h *host) listen(ctx context.Context) error {
	listeners, err := h.openPorts(ctx)
	if err != nil {
		return err
	}
	h.server = transport.New(transport.Options{
		RunID: h.runID, Era: h.era, View: firstView, Allow: h.allowHello, Desk: desk{h}, Seed: seeded{h.run}, MaxPayloadBytes: h.maxPayload(),
		Moved:          func(p *transport.Peer, came bool) { h.traffic.note(p.Incarnation(), came) },
		MaxQueuedBytes: 12*int64(h.run.Size()) + h.door.answerBytes() + 1<<20 + 2*int64(len(h.run.Marshal())), // weights of a probe, a seed, a verdict for every fragment, a gate record, messages and the run file
	}, h)
	h.bank.reuse = h.server.Reuse
	for _, l := range listeners {
		go func() {
			if err := h.server.Serve(l); err != nil {
				h.fail(fmt.Errorf("serving the islands: %w", err))
			}
		}()
	}
	return nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// listenAt waits a little for a port that the era before has just let go.
func listenAt(address string) (net.Listener, error) {
	for tries := 0; ; tries++ {
		lis, err := net.Listen("tcp", address)
		if !errors.Is(err, syscall.EADDRINUSE) || tries >= 20 {
			return lis, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// listenPublic opens the port for other hosts.
func (op *opened) listenPublic() (net.Listener, error) {
	config, err := op.authority.Server(op.runID)
	if err != nil {
		return nil, err
	}
	lis, err := listenAt(orElse(op.public, op.listening))
	if err != nil {
		return nil, notListened(op.listening, err)
	}
	return tls.NewListener(lis, config), nil
}

func notListened(address string, err error) error {
	return &fault.Input{Where: "--listen", Value: address, Problem: "cannot be listened at: " + plain(err), Next: "choose an address of this host and a port that is free"}
}

// checkListen refuses an address before a run folder is made for a run that cannot begin there.
func checkListen(address string) error {
	if address == "" {
		return nil
	}
	lis, err := listenAt(address)
	if err != nil {
		return notListened(address, err)
	}
	return lis.Close()
}

// plain is the system's own word for what went wrong.
func plain(err error) string {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

func (op *opened) sayWhere(ctx context.Context) error {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	c := coordinator{Address: op.address, RunID: op.runID, Era: op.era, PID: os.Getpid(), Host: name, Nonce: op.nonce}
	if op.public != "" {
		c.Listen, c.Reached, c.Authority = op.listensAt(), op.reached(), op.authority.Fingerprint()
	}
	place, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = op.store.Put(ctx, CoordinatorName, func(w io.Writer) error {
		_, err := w.Write(append(place, '\n'))
		return err
	})
	return err
}

// listensAt is the address that was asked for, with the port that was opened.
func (op *opened) listensAt() string {
	asked, _, err := net.SplitHostPort(op.listening)
	_, port, err2 := net.SplitHostPort(op.public)
	if err != nil || err2 != nil {
		return op.public
	}
	return net.JoinHostPort(asked, port)
}

// Listened is where other hosts reached the coordinator of the run in a folder, as --listen has it;
// empty: they did not, or nothing says so.
func Listened(dir string) string {
	c, err := whoCoordinates(dir)
	if err != nil {
		return ""
	}
	return c.Listen
}

// reached are the addresses by which others reach this process: the one that was asked
// for, or those of the host's interfaces.
func (op *opened) reached() []string {
	if op.public == "" {
		return []string{op.address}
	}
	asked, port, err := net.SplitHostPort(op.listensAt())
	if err != nil {
		return []string{op.public}
	}
	if ip := net.ParseIP(asked); asked != "" && (ip == nil || !ip.IsUnspecified()) {
		return []string{net.JoinHostPort(asked, port)}
	}
	var out []string
	addrs, _ := net.InterfaceAddrs() //nolint:errcheck // none then
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			out = append(out, net.JoinHostPort(n.IP.String(), port))
		}
	}
	if len(out) == 0 {
		out = []string{net.JoinHostPort("127.0.0.1", port)}
	}
	return out
}

// joinable says whether islands may come from outside.
func (op *opened) joinable() bool { return op.outside || op.listening != "" }

// tellJoins shows how others join, once.
func (op *opened) tellJoins(emit func(ledger.Event)) {
	if !op.joinable() || op.shown {
		return
	}
	op.shown = true
	limits := op.limits
	if limits.ID == "" {
		limits.ID = authority.NewID()
	}
	c := coordinator{RunID: op.runID, Address: op.address}
	if op.public != "" {
		c.Authority = op.authority.Fingerprint()
	}
	command := "mistura join"
	if op.run.DefaultEngine() == runfile.External {
		command += " --engine external -- COMMAND" // none of ours can train this
	}
	emit(ledger.Note{At: time.Now(), Text: "islands join" + limits.Words() + " by"})
	for _, j := range c.joins(op.reached(), op.authority, limits) {
		emit(ledger.Note{At: time.Now(), Text: fmt.Sprintf("MISTURA_JOIN='%s' %s", j, command)})
	}
}

// joins are join strings for the addresses of a coordinator.
func (c coordinator) joins(addresses []string, a *authority.Authority, limits authority.Token) (out []wire.Join) {
	token := a.Issue(c.RunID, limits)
	for _, address := range addresses {
		out = append(out, wire.Join{Address: address, RunID: c.RunID, Island: limits.Island, Authority: c.Authority, Token: token})
	}
	return out
}

// Joins makes join strings for the run in a folder, by what its coordinator wrote there.
func Joins(dir string, limits authority.Token) ([]wire.Join, error) {
	c, err := whoCoordinates(dir)
	if err != nil {
		return nil, err
	}
	a, err := authority.Open(dir)
	if err != nil {
		return nil, err
	}
	addresses := c.Reached
	if len(addresses) == 0 {
		addresses = []string{c.Address}
	}
	return c.joins(addresses, a, limits), nil
}

// whoCoordinates reads where the run in a folder is coordinated, or was last.
func whoCoordinates(dir string) (coordinator, error) {
	path := filepath.Join(dir, CoordinatorName)
	data, err := os.ReadFile(path)
	var c coordinator
	if errors.Is(err, fs.ErrNotExist) {
		return c, &fault.Input{Where: "RUN", Value: dir, Problem: "holds no run that was started (" + CoordinatorName + " is missing)", Next: "give the folder of a run"}
	}
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err == nil && (c.Address == "" || c.RunID == "") {
		err = errors.New("no address or no run")
	}
	if err != nil {
		return c, &fault.Input{Where: path, Problem: "does not say who coordinates the run", Next: "start it by mistura serve", Err: err}
	}
	return c, nil
}

// askFor is how long the token is good by which the owner of a run folder asks for its status.
const askFor = 30 * 24 * time.Hour

// Ask is how to ask the coordinator of the run in a folder, which must be on this host or
// reachable from it.
func Ask(dir string) (wire.Join, error) {
	c, err := whoCoordinates(dir)
	if err != nil {
		return wire.Join{}, err
	}
	a, err := authority.Open(dir)
	if err != nil {
		return wire.Join{}, err
	}
	j := c.join()
	j.Token = a.Issue(c.RunID, authority.Token{ID: authority.NewID(), Expires: time.Now().Add(askFor)})
	return j, nil
}
