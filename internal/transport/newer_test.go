package transport

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/mistura-project/mistura/internal/wire"
)

// newer is the coordinator of a newer program: it refuses who speaks this one's protocol, in a
// frame of its own.
type newer struct {
	wire.UnimplementedExchangeServer
}

func (newer) Session(s grpc.BidiStreamingServer[wire.FromLearner, wire.ToLearner]) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	reason := fmt.Sprintf("the learner speaks protocol %d, the coordinator %d; use one version of mistura on both sides", m.GetOrigin().GetProtocol(), wire.Protocol+1)
	return s.Send(&wire.ToLearner{
		Origin: &wire.Origin{Protocol: wire.Protocol + 1, RunId: m.GetOrigin().GetRunId()},
		Body:   &wire.ToLearner_Rejected{Rejected: &wire.Rejected{Reason: reason}},
	})
}

// Danger: a frame of a newer protocol is malformed to an island, so that nobody hears which
// two numbers do not go together. The refusal arrives, and has both.
func TestNewerProtocol(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, ended := grpc.NewServer(), make(chan error, 1)
	wire.RegisterExchangeServer(server, newer{})
	go func() { ended <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	c, err := Dial(withPatience(t), wire.Join{Address: lis.Addr().String(), RunID: "r"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Recv(withPatience(t))
	want := fmt.Sprintf("the learner speaks protocol %d, the coordinator %d", wire.Protocol, wire.Protocol+1)
	if no := m.GetRejected(); err != nil || no.GetRetry() || !strings.Contains(no.GetReason(), want) {
		t.Errorf("%v, %v", m.ToLearner, err)
	}
	c.Close() //nolint:errcheck // the coordinator has closed it
}
