package transport

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mistura-project/mistura/internal/wire"
)

// allows refuses whoever calls beside a session and is not of this protocol and run, or
// has no right to. Where nobody answers at the desk the run's secret gives it.
func (s *Server) allows(who *wire.Credentials) error {
	o := s.opts
	reason := ""
	switch {
	case who.GetProtocol() != wire.Protocol:
		reason = fmt.Sprintf("the caller speaks protocol %d, the coordinator %d; use one version of mistura on both sides", who.GetProtocol(), wire.Protocol)
	case who.GetRunId() != o.RunID:
		reason = fmt.Sprintf("the caller wants run %q, the coordinator here runs %q; check the join string", who.GetRunId(), o.RunID)
	case o.Desk != nil:
		reason = o.Desk.Allow(who)
	default:
		reason = s.wrongSecret(who.GetSecret())
	}
	if reason != "" {
		return status.Error(codes.PermissionDenied, reason)
	}
	return nil
}

// wrongSecret says so, or nothing.
func (s *Server) wrongSecret(secret string) string {
	want, got := sha256.Sum256([]byte(s.opts.Secret)), sha256.Sum256([]byte(secret))
	if s.opts.Secret != "" && subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return fmt.Sprintf("the secret of the join string (%d characters) is not that of run %q; copy the join string again", len(secret), s.opts.RunID)
	}
	return ""
}
