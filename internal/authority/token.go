package authority

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Token is what a join string allows. The zero value of a limit stands for none.
type Token struct {
	ID      string    // names it in messages and on the tape
	Expires time.Time // whole seconds
	Uses    int       // islands that it lets in, restarts included
	Island  string    // the one name that it is for
}

// Words are the limits of a token, for people, with a leading space; empty: none.
func (t Token) Words() string {
	var out string
	if t.Island != "" {
		out += " as " + t.Island
	}
	if t.Uses > 0 {
		out += fmt.Sprintf(" %d times", t.Uses)
	}
	if !t.Expires.IsZero() {
		out += " until " + t.Expires.UTC().Format("2006-01-02 15:04:05 MST")
	}
	return out
}

// MaxUses bounds Token.Uses.
const MaxUses = 1 << 20

// idForm and nameForm are what ID and Island look like.
var (
	idForm   = regexp.MustCompile(`^[0-9a-f]{8}$`)
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)
)

// tokenFormat begins every token; a change of what follows makes it another.
const tokenFormat = "1"

// NewID names a new token.
func NewID() string {
	b := make([]byte, 4)
	rand.Read(b) //nolint:errcheck // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// Issue writes a token of a run: what it allows, and a proof that the run said so.
func (a *Authority) Issue(runID string, t Token) string {
	text := strings.Join([]string{tokenFormat, t.ID, expiryText(t.Expires), strconv.Itoa(t.Uses), t.Island}, "~")
	return text + "~" + a.proof("join", runID, text)
}

func expiryText(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.Unix(), 10)
}

// Read is what a token of this run allows, or why it allows nothing. Whether its uses
// are left is for the caller to know.
func (a *Authority) Read(runID, text string, now time.Time) (Token, string) {
	at := strings.LastIndexByte(text, '~')
	if at < 0 {
		return Token{}, "its token is cut off"
	}
	t, ok := parseToken(text[:at])
	if !ok {
		return Token{}, "its token is malformed"
	}
	if !hmac.Equal([]byte(text[at+1:]), []byte(a.proof("join", runID, text[:at]))) {
		return Token{}, fmt.Sprintf("its token %s is not of this run, or was altered", t.ID)
	}
	if !t.Expires.IsZero() && !now.Before(t.Expires) {
		return t, fmt.Sprintf("its token %s expired on %s, %v ago", t.ID, t.Expires.UTC().Format("2006-01-02 15:04:05 MST"), now.Sub(t.Expires).Round(time.Second))
	}
	return t, ""
}

// parseToken reads a token without its proof.
func parseToken(text string) (Token, bool) {
	parts := strings.Split(text, "~")
	if len(parts) != 5 || parts[0] != tokenFormat || !idForm.MatchString(parts[1]) || parts[4] != "" && !nameForm.MatchString(parts[4]) {
		return Token{}, false
	}
	seconds, err := strconv.ParseInt(parts[2], 10, 40) // up to the year 19391
	if err != nil || seconds < 0 {
		return Token{}, false
	}
	uses, err := strconv.Atoi(parts[3])
	if err != nil || uses < 0 || uses > MaxUses {
		return Token{}, false
	}
	t := Token{ID: parts[1], Uses: uses, Island: parts[4]}
	if seconds > 0 {
		t.Expires = time.Unix(seconds, 0)
	}
	return t, true
}

// Life is one incarnation of an island, as its pass names it.
type Life struct {
	Era         uint32
	Incarnation uint64
	Island      string
}

// Pass is the secret of one incarnation, which it has from its welcome. It outlives the
// join string and the era, so that who is in stays in, and comes back if need be.
func (a *Authority) Pass(runID string, of Life) string {
	text := fmt.Sprintf("%d~%d~%s", of.Era, of.Incarnation, of.Island)
	return text + "~" + a.proof("pass", runID, text)
}

// LifeOf says whose pass a secret is, of any era of the run, or that it is none.
func (a *Authority) LifeOf(runID, secret string) (Life, bool) {
	parts := strings.Split(secret, "~")
	if len(parts) != 4 {
		return Life{}, false
	}
	era, err := strconv.ParseUint(parts[0], 10, 32)
	incarnation, err2 := strconv.ParseUint(parts[1], 10, 64)
	if err != nil || err2 != nil {
		return Life{}, false
	}
	of := Life{uint32(era), incarnation, parts[2]}
	return of, Holds(secret, a.Pass(runID, of))
}

// Holds compares a secret with what it should be, in constant time.
func Holds(secret, want string) bool { return hmac.Equal([]byte(secret), []byte(want)) }

// proof is the keyed digest of a text that is about something of a run.
func (a *Authority) proof(about, runID, text string) string {
	mac := hmac.New(sha256.New, a.joinKey)
	fmt.Fprintf(mac, "mistura %s\n%q\n%s", about, runID, text)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
