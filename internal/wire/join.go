package wire

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mistura-project/mistura/internal/authority"
	"github.com/mistura-project/mistura/internal/fault"
)

// joinScheme begins every join string.
const joinScheme = "mistura"

// Join is all that an island must know to enter a run. As a string it is one
// argument to paste:
//
//	mistura://host:port/RUNID?era=1&island=fast&incarnation=3&secret=…
//	mistura://host:port/RUNID?island=rack2&authority=…&token=…
//
// The first is for a process that the run starts itself, and good for one life in one
// era. The second is for people to paste: it stays good when the run goes on elsewhere
// in another era, if only the address is put right.
type Join struct {
	Address     string // host:port of the coordinator
	RunID       string
	Era         uint32 // 0: whichever there is
	Island      string // empty: the coordinator gives a name
	Incarnation uint64 // 0: the coordinator gives one
	Secret      string // of the incarnation, or of the run
	Authority   string // fingerprint of the run's certificate authority; empty: no TLS, on this host only
	Token       string // proves that the run gave out this string, and says its limits
}

// String gives the join string, secret included; ParseJoin reads it back.
func (j Join) String() string {
	var q []string
	add := func(key, value string) {
		if value != "" {
			q = append(q, key+"="+url.QueryEscape(value))
		}
	}
	add("era", unlessZero(uint64(j.Era)))
	add("island", j.Island)
	add("incarnation", unlessZero(j.Incarnation))
	add("secret", j.Secret)
	add("authority", j.Authority)
	add("token", j.Token)
	s := joinScheme + "://" + j.Address + "/" + url.PathEscape(j.RunID)
	if len(q) > 0 {
		s += "?" + strings.Join(q, "&")
	}
	return s
}

func unlessZero(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

// Redacted is String without what lets somebody in, for messages and logs.
func (j Join) Redacted() string {
	if j.Secret != "" {
		j.Secret = "hidden"
	}
	if j.Token != "" {
		j.Token = "hidden"
	}
	return j.String()
}

// ParseJoin reads a join string. Whatever is wrong comes back as *fault.Input,
// which never quotes the secret.
func ParseJoin(s string) (Join, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Join{}, badJoin("", "", "is not a URL")
	}
	if u.Scheme != joinScheme {
		return Join{}, badJoin("", u.Scheme, "does not begin with "+joinScheme+"://")
	}
	if u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return Join{}, badJoin("", "", "has a part that a join string has not (user, # or no //)")
	}
	j := Join{Address: u.Host, RunID: strings.TrimPrefix(u.Path, "/")}
	if err := checkAddress(u); err != nil {
		return Join{}, err
	}
	if j.RunID == "" || strings.Contains(j.RunID, "/") || !printable(j.RunID) {
		return Join{}, badJoin("run id", j.RunID, "must be one name after the address")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Join{}, badJoin("", "", "has a malformed part after the question mark")
	}
	for key, values := range q {
		if err := j.set(key, values); err != nil {
			return Join{}, err
		}
	}
	if j.Incarnation != 0 && j.Era == 0 {
		return Join{}, badJoin("era", "", "must go with incarnation")
	}
	return j, nil
}

// checkAddress wants a host and a port that can be dialled.
func checkAddress(u *url.URL) error {
	if u.Hostname() == "" || strings.ContainsAny(u.Host, "%\\ ") {
		return badJoin("address", u.Host, "must be host:port")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return badJoin("address", u.Host, "must end in a port from 1 to 65535")
	}
	return nil
}

// set fills one field from its key.
func (j *Join) set(key string, values []string) error {
	if len(values) != 1 || values[0] == "" {
		return badJoin(key, "", "must stand there once, with a value")
	}
	value := values[0]
	switch key {
	case "era":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n == 0 {
			return badJoin(key, value, "must be a number from 1")
		}
		j.Era = uint32(n)
	case "incarnation":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || n == 0 {
			return badJoin(key, value, "must be a number from 1")
		}
		j.Incarnation = n
	case "island":
		if !printable(value) {
			return badJoin(key, value, "must be printable text")
		}
		j.Island = value
	case "secret":
		if !utf8.ValidString(value) { // nor would a message carry it
			return badJoin(key, "", "must be UTF-8")
		}
		j.Secret = value
	case "token":
		if !printable(value) {
			return badJoin(key, "", "must be printable text")
		}
		j.Token = value
	case "authority":
		if why := authority.CheckFingerprint(value); why != "" {
			return badJoin(key, value, why)
		}
		j.Authority = value
	default:
		return badJoin("", key, "is not a known key (era, island, incarnation, secret, authority, token)")
	}
	return nil
}

// printable says whether a name can stand in a message and on a terminal.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// badJoin names the part of the join string that is wrong.
func badJoin(part, value, problem string) error {
	where := "join string"
	if part != "" {
		where = fmt.Sprintf("join string, %s", part)
	}
	return &fault.Input{Where: where, Value: value, Problem: problem, Next: "copy it whole from the output of the run"}
}
