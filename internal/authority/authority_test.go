package authority

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

func open(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The danger: a key that others can read, or two processes with two authorities.
func TestOpenMakesOneAuthority(t *testing.T) {
	dir := t.TempDir()
	got := make(chan *Authority)
	for range 8 {
		go func() {
			a, err := Open(dir)
			if err != nil {
				t.Error(err)
			}
			got <- a
		}()
	}
	first := <-got
	for range 7 {
		if a := <-got; a.Fingerprint() != first.Fingerprint() {
			t.Error("two authorities in one run")
		}
	}
	info, err := os.Stat(filepath.Join(dir, Folder, fileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, Folder))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	path := filepath.Join(dir, Folder, fileName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil { // as a copy may come out
		t.Fatal(err)
	}
	open(t, dir)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may still read it: %v, %v", info.Mode(), err)
	}
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"empty":          {"", 0o600, "missing"},
		"cut":            {string(data[:len(data)/2]), 0o600, "missing"},
		"no certificate": {strings.Replace(string(data), "CERTIFICATE", "CARROT", 2), 0o600, "missing"},
		"not ours":       {"hello", 0o600, "missing"},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir)
		var in *fault.Input
		if !errors.As(err, &in) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// handshake lets a client with its idea of the run speak to a server.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, err := lis.Accept()
		if err != nil {
			return
		}
		a.(*tls.Conn).Handshake() //nolint:errcheck // the client's side is judged
		a.Close()
	}()
	c, err := tls.Dial("tcp", lis.Addr().String(), client)
	<-done
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	return c.ConnectionState(), nil
}

// The danger: a stranger's certificate counts, be it of another run, of an authority
// that only copies the name, or one that presents the right authority without its key.
func TestClientTrustsItsRunOnly(t *testing.T) {
	own, other := open(t, t.TempDir()), open(t, t.TempDir())
	server := func(a *Authority, runID string) *tls.Config {
		c, err := a.Server(runID)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	state, err := handshake(t, server(own, "r1"), Client(own.Fingerprint(), "r1"))
	if err != nil || state.Version != tls.VersionTLS13 {
		t.Fatalf("%v, version %x", err, state.Version)
	}
	forged := server(other, "r1")
	forged.Certificates[0].Certificate[1] = own.cert.Raw
	lone := server(own, "r1")
	lone.Certificates[0].Certificate = lone.Certificates[0].Certificate[:1]
	for name, c := range map[string]*tls.Config{
		"another authority":             server(other, "r1"),
		"another run":                   server(own, "r2"),
		"the right authority, borrowed": forged,
		"no authority":                  lone,
	} {
		if _, err := handshake(t, c, Client(own.Fingerprint(), "r1")); !errors.Is(err, ErrOther) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := server(own, "r1")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, err := handshake(t, old, Client(own.Fingerprint(), "r1")); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
}

func TestToken(t *testing.T) {
	a, other := open(t, t.TempDir()), open(t, t.TempDir())
	now := time.Unix(1_800_000_000, 0)
	want := Token{ID: NewID(), Expires: now.Add(time.Hour), Uses: 3, Island: "rack-2.a"}
	text := a.Issue("r1", want)
	if got, why := a.Read("r1", text, now); why != "" || got != want {
		t.Fatalf("%+v, %q, want %+v", got, why, want)
	}
	if got, why := a.Read("r1", a.Issue("r1", Token{ID: want.ID}), now); why != "" || got != (Token{ID: want.ID}) {
		t.Errorf("without limits: %+v, %q", got, why)
	}
	for name, c := range map[string]struct{ text, want string }{
		"more uses":      {strings.Replace(text, "~3~", "~30~", 1), "is not of this run, or was altered"},
		"another name":   {strings.Replace(text, "rack-2", "rack-3", 1), "is not of this run, or was altered"},
		"other key":      {other.Issue("r1", want), "is not of this run"},
		"other run":      {a.Issue("r2", want), "is not of this run"},
		"a pass":         {"1~" + want.ID + "~0~0~~" + a.Pass("r1", Life{1, 1, "x"})[6:], "is not of this run"},
		"cut":            {text[:20], "malformed"},
		"empty":          {"", "cut off"},
		"a path as name": {"1~" + want.ID + "~0~0~../x~x", "malformed"},
		"negative":       {"1~" + want.ID + "~-5~0~~x", "malformed"},
		"newer":          {"2" + text[1:], "malformed"},
	} {
		if _, why := a.Read("r1", c.text, now); !strings.Contains(why, c.want) {
			t.Errorf("%s: %q, want %q", name, why, c.want)
		}
	}
	if _, why := a.Read("r1", text, now.Add(time.Hour)); why != "its token "+want.ID+" expired on 2027-01-15 09:00:00 UTC, 0s ago" {
		t.Errorf("expired: %q", why)
	}
	life := Life{1, 2, "rack-2"}
	pass := a.Pass("r1", life)
	if got, ok := a.LifeOf("r1", pass); !ok || got != life {
		t.Errorf("a pass is of %+v, %v", got, ok)
	}
	for name, secret := range map[string]string{
		"of another incarnation": strings.Replace(pass, "~2~", "~3~", 1), "of another era": "2" + pass[1:], "of another island": strings.Replace(pass, "rack-2", "rack-3", 1),
		"of another authority": other.Pass("r1", life), "of another run": a.Pass("r2", life), "empty": "", "a token": text, "written otherwise": "0" + pass,
	} {
		if _, ok := a.LifeOf("r1", secret); ok {
			t.Errorf("a pass %s is taken", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	a, err := Open(dir)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	good := a.Issue("r", Token{ID: "0123abcd", Expires: now.Add(time.Hour), Uses: 2, Island: "x"})
	for _, s := range []string{good, "1~0123abcd~0~0~~", "~~~~~", "1~0123abcd~99999999999999~0~~x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, why := a.Read("r", s, now)
		if why == "" && a.Issue("r", got) != s {
			t.Fatalf("%q is taken for %+v", s, got)
		}
	})
}
