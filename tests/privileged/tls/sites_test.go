package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/nginx"
)

// Where the servers of sites listen that cannot say where they do.
const (
	nginxPort  = 8443
	pythonPort = 8444
)

const (
	// overTLS is a server of nginx. Its arguments: the address, the folder of its key, and the file that it writes into.
	overTLS = `server { listen %[1]s ssl http2; ssl_certificate %[2]s/cert; ssl_certificate_key %[2]s/key; access_log %[3]s requests;
	client_header_timeout 10s; # Node waits for it when its write over HTTP/2 was denied and no agent ends the connection
	location / { return 200 "welcome"; } location ~ /info/refs$ { return 200 ""; } location ~ /HEAD$ { return 200 "ref: refs/heads/main"; } }`

	// pythonServer is one in Python, with these arguments: host, port, folder of its key, file that it writes into.
	pythonServer = `
import http.server, ssl, sys
host, port, keys, log = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        with open(log, "a") as f:
            f.write(self.command + " " + self.path + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"welcome")
    def log_message(self, *args):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(keys + "/cert", keys + "/key")
server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()`
)

// said is what the server in Go answers: what git finds there is an empty repository.
func said(path string) string {
	switch {
	case strings.HasSuffix(path, "/info/refs"):
		return ""
	case strings.HasSuffix(path, "/HEAD"):
		return "ref: refs/heads/main"
	}
	return "welcome"
}

// site is a server with TLS.
type site struct {
	name string
	addr netip.AddrPort
	http2,
	git bool // what it speaks beside HTTP/1.1, and whether it has a repository
	saw func(path string) bool
}

// speaks says whether a client can ask it so.
func (s site) speaks(c tlsClient) bool {
	return s.addr.IsValid() && (s.http2 || c.version != overHTTP2) && (s.git || !c.git)
}

// sites starts servers behind the node, each of which answers every request and writes down its path.
func (s *scene) sites(t *testing.T) []site {
	t.Helper()
	dir := t.TempDir()
	keyPair(t, dir)
	return []site{
		{name: "Go", addr: s.server, http2: true, git: true, saw: s.has},
		s.nginxSite(t, dir),
		s.pythonSite(t, dir),
	}
}

func (s *scene) nginxSite(t *testing.T, keys string) site {
	t.Helper()
	log := filepath.Join(t.TempDir(), "requests")
	at := netip.AddrPortFrom(s.ServerAddr, nginxPort)
	nginx.Start(t, s.Server, fmt.Sprintf(overTLS, at, keys, log), at)
	return site{name: "nginx", addr: at, http2: true, git: true, saw: func(path string) bool { return logged(t, log, path) }}
}

// pythonSite is of a machine without Python one that nobody asks.
func (s *scene) pythonSite(t *testing.T, keys string) site {
	t.Helper()
	if _, err := os.Stat(python); err != nil {
		t.Log("no server in Python: ", err)
		return site{}
	}
	log := filepath.Join(t.TempDir(), "requests")
	at := netip.AddrPortFrom(s.ServerAddr, pythonPort)
	cmd := exec.Command(python, "-c", pythonServer, at.Addr().String(), fmt.Sprint(at.Port()), keys, log)
	cmd.Stderr = os.Stderr
	s.Server.Start(t, cmd)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it never ends by itself
	testutil.Eventually(t, "the server in Python", func() error {
		return s.Server.Try(func() error {
			conn, err := net.Dial("tcp", at.String())
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	})
	return site{name: "Python", addr: at, saw: func(path string) bool { return logged(t, log, path) }}
}

// logged says whether a server has written down a path. A file that is not there yet has none.
func logged(t *testing.T, file, path string) bool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	return strings.Contains(string(b), path)
}

// keyPair leaves a key that nobody has signed for in the files key and cert of a folder.
func keyPair(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a"}, DNSNames: []string{"a"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: cert}, "key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// loadedPair is such a pair for a server of the test itself.
func loadedPair(t *testing.T) tls.Certificate {
	t.Helper()
	dir := t.TempDir()
	keyPair(t, dir)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert"), filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
