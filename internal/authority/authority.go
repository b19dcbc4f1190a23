package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/mistura-project/mistura/internal/fault"
)

// Folder is where a run keeps its authority, below its own folder.
const Folder = "authority"

// fileName holds certificate, its private key and the key of join strings.
const fileName = "authority.pem"

// Kinds of PEM blocks in the file.
const (
	certBlock = "CERTIFICATE"
	keyBlock  = "PRIVATE KEY"
	joinBlock = "MISTURA JOIN KEY"
)

const joinKeyBytes = 32

// validFor bounds certificates. A run is over sooner; its folder may be copied later.
const validFor = 10 * 365 * 24 * time.Hour

// Authority of one run, as its coordinator has it.
type Authority struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	joinKey []byte
}

// Open gives the authority of a run folder; the first caller makes it. The file is
// readable by its owner alone, and refused when it cannot be.
func Open(dir string) (*Authority, error) {
	path := filepath.Join(dir, Folder, fileName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("making the authority of the run: %w", err)
		}
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the authority of the run: %w", err)
	}
	if err := closeToOthers(path); err != nil {
		return nil, err
	}
	a, err := decode(data)
	if err != nil {
		return nil, &fault.Input{Where: path, Problem: "is no authority of a run: " + err.Error(), Next: "restore it, or delete it to have a new one made (join strings of before are then refused)"}
	}
	return a, nil
}

// closeToOthers takes away what rights others have to the file, as copies of a run folder
// may give them.
func closeToOthers(path string) error {
	open := func() (mode fs.FileMode, is bool) {
		info, err := os.Stat(path)
		if err != nil {
			return 0, true
		}
		mode = info.Mode().Perm()
		return mode, mode&0o077 != 0
	}
	if _, is := open(); !is {
		return nil
	}
	os.Chmod(path, 0o600) //nolint:errcheck // the next line sees whether it helped
	if mode, is := open(); is {
		return &fault.Input{Where: path, Value: mode.String(), Problem: "others than its owner may read or change it", Next: "keep the run on a file system with rights, and chmod 600 it"}
	}
	return nil
}

// create makes the file unless another process is faster.
func create(path string) error {
	data, err := generate()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // readable by its owner alone
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	if _, err := temp.Write(data); err != nil {
		return errors.Join(err, temp.Close())
	}
	if err := errors.Join(temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// generate makes a new authority, encoded.
func generate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "mistura run authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validFor),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	joinKey := make([]byte, joinKeyBytes)
	rand.Read(joinKey) //nolint:errcheck // never fails (crypto/rand)
	var out []byte
	for _, b := range []pem.Block{{Type: certBlock, Bytes: cert}, {Type: keyBlock, Bytes: private}, {Type: joinBlock, Bytes: joinKey}} {
		out = append(out, pem.EncodeToMemory(&b)...)
	}
	return out, nil
}

// decode reads what generate made.
func decode(data []byte) (*Authority, error) {
	a := &Authority{}
	for len(data) > 0 {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		var err error
		switch b.Type {
		case certBlock:
			a.cert, err = x509.ParseCertificate(b.Bytes)
		case keyBlock:
			var key any
			key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
			a.key, _ = key.(*ecdsa.PrivateKey)
		case joinBlock:
			a.joinKey = b.Bytes
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case a.cert == nil || a.key == nil || len(a.joinKey) != joinKeyBytes:
		return nil, errors.New("certificate, its key or the key of join strings is missing")
	case !a.key.PublicKey.Equal(a.cert.PublicKey):
		return nil, errors.New("the key is not that of the certificate")
	}
	return a, nil
}

// Fingerprint is the SHA-256 of the certificate, hex: what a join string carries.
func (a *Authority) Fingerprint() string { return fingerprint(a.cert.Raw) }

func fingerprint(cert []byte) string {
	sum := sha256.Sum256(cert)
	return hex.EncodeToString(sum[:])
}

// Server is how the coordinator of a run speaks to other hosts: TLS 1.3, with a key
// that lives as long as this process.
func (a *Authority) Server(runID string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the coordinator's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "mistura coordinator"}, DNSNames: []string{serverName(runID)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("making the coordinator's certificate: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert, a.cert.Raw}, PrivateKey: key}},
	}, nil
}

// Client is how another host speaks to the coordinator of a run whose authority has a
// fingerprint. The address does not matter: it may change from one day to the next.
func Client(print, runID string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, ServerName: serverName(runID),
		InsecureSkipVerify: true, // the roots of the system are not asked; VerifyConnection does more than they would
		VerifyConnection:   func(s tls.ConnectionState) error { return verify(s.PeerCertificates, print, runID) },
	}
}

// verify wants a certificate for this run, signed by the authority of the fingerprint.
func verify(chain []*x509.Certificate, print, runID string) error {
	if len(chain) != 2 || fingerprint(chain[1].Raw) != print {
		return fmt.Errorf("%w: the join string names authority %.16s", ErrOther, print)
	}
	roots := x509.NewCertPool()
	roots.AddCert(chain[1])
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: serverName(runID), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOther, err)
	}
	return nil
}

// ErrOther: who answers at the address is not the coordinator of the run.
var ErrOther = errors.New("who answers there is not the coordinator of this run")

// CheckFingerprint says what is wrong with the text of a fingerprint, or nothing.
func CheckFingerprint(s string) string {
	if b, err := hex.DecodeString(s); err != nil || len(b) != sha256.Size || hex.EncodeToString(b) != s {
		return fmt.Sprintf("must be %d lower-case hex digits", 2*sha256.Size)
	}
	return ""
}

// serverName is what a certificate of the run's coordinator is for.
func serverName(runID string) string {
	sum := sha256.Sum256([]byte(runID))
	return hex.EncodeToString(sum[:8]) + ".mistura.internal"
}

// serial is a random serial number.
func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b) //nolint:errcheck // never fails (crypto/rand)
	b[0] &= 0x7f // it counts as signed
	return new(big.Int).SetBytes(b)
}
