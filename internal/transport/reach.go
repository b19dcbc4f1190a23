package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/fault"
	"github.com/mistura-project/mistura/internal/wire"
)

// connectPatience bounds the making of a connection, the handshake included: a port
// that swallows packets must be an error within 10 s.
const connectPatience = 8 * time.Second

// credentialsOf are those of a join string: TLS by the run's own authority, or none on
// this host.
func credentialsOf(join wire.Join) (credentials.TransportCredentials, error) {
	if join.Authority != "" {
		return credentials.NewTLS(authority.Client(join.Authority, join.RunID)), nil
	}
	if !loopback(join.Address) {
		return nil, &fault.Input{
			Where: "join string, authority", Problem: "is missing, and " + join.Address + " is not on this host: nothing goes to another host in the clear",
			Next: "copy the join string whole from the output of mistura serve",
		}
	}
	return insecure.NewCredentials(), nil
}

// loopback says whether an address is certainly on this host.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// unreachable tells both ends of a way that does not work.
func unreachable(join wire.Join, err error) error {
	local, device := Route(join.Address)
	from := "this host has no way to that address"
	if local != "" {
		from = "asked from " + local
	}
	if device != "" {
		from += " on interface " + device
	}
	next := "see that the run is there, and that the port is open on the way (firewall, mistura serve --listen)"
	if strings.Contains(err.Error(), authority.ErrOther.Error()) { // gRPC passes on its text alone
		next = "copy the join string again from the output of the run"
	}
	in := &fault.Input{Where: "coordinator", Value: join.Address, Problem: fmt.Sprintf("cannot be reached: %s (%s)", plainly(err), from), Next: next}
	if errors.Is(err, ErrLost) {
		return noWay{in}
	}
	return in
}

// noWay is an ErrLost whose words say why already.
type noWay struct{ *fault.Input }

func (n noWay) Is(target error) bool { return target == ErrLost }

func (n noWay) Unwrap() error { return n.Input }

// plainly is what happened without the layers that saw it pass.
func plainly(err error) string {
	text := err.Error()
	for _, layer := range []string{"connection error: desc = ", "transport: ", "authentication handshake failed: ", "Error while dialing: "} {
		if i := strings.LastIndex(text, layer); i >= 0 {
			text = strings.Trim(text[i+len(layer):], `"`)
		}
	}
	return text
}

// Route is the address and the interface of this host from which another is reached,
// as far as they are known.
func Route(address string) (local, device string) {
	c, err := net.Dial("udp", address) // sends nothing
	if err != nil {
		return "", ""
	}
	defer c.Close()
	own, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return "", ""
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return own.IP.String(), ""
	}
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(own.IP) {
				return own.IP.String(), i.Name
			}
		}
	}
	return own.IP.String(), ""
}
