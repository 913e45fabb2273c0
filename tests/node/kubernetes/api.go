package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
)

const (
	// ServiceAddress is where pods find the API server, at port 443.
	ServiceAddress = "10.96.0.1"
	serviceRange   = "10.96.0.0/16"
	requestTime    = 30 * time.Second // of one request to the API server
)

// APIOptions says how an API server is run.
type APIOptions struct {
	// Net is the network namespace it is in; nil: the test's own, where it is on loopback only, on ports that are free.
	Net *testutil.NetNS
	// Node is its address in Net.
	Node netip.Addr
	// Flags are more flags of kube-apiserver.
	Flags []string
}

// API is an API server with its etcd.
type API struct {
	URL     string // https://127.0.0.1:port
	options APIOptions
	dir     string
	pki     *authority
	etcd    component
	server  component
	client  *http.Client
	peer    netip.AddrPort // of etcd
	admin   string         // path of the kubeconfig
}

// NewAPI starts an API server and waits until it is ready, which takes some 3 s. It needs root, which a daemon's
// own namespaces do.
func NewAPI(t testing.TB, options APIOptions) *API {
	t.Helper()
	testutil.RequireRoot(t)
	etcd, err := testutil.LookPath("etcd")
	if err != nil {
		testutil.Unsupported(t, "etcd", err.Error())
	}
	dir, err := os.MkdirTemp("", "sallyport-api-") //nolint:usetesting // kept until the daemons have ended
	if err != nil {
		t.Fatal(err)
	}
	a := &API{options: options, dir: dir, peer: local(t, options.Net, 2379)}
	a.URL = "https://" + local(t, options.Net, 443).String()
	t.Cleanup(func() { a.close(t) })
	a.etcd = component{name: "etcd", log: a.path("etcd.log"), spec: testutil.DaemonSpec{NetNS: options.Net}}
	a.server = component{name: "kube-apiserver", log: a.path("apiserver.log"), spec: testutil.DaemonSpec{NetNS: options.Net}}
	a.certify(t)
	client, peers := "http://"+a.peer.String(), "http://"+local(t, options.Net, 2380).String()
	a.etcd.start(t, etcd, "--data-dir="+a.path("etcd"), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers, "--unsafe-no-fsync")
	a.Start(t)
	return a
}

// local is an address of loopback: in a namespace of a cluster's own with that port, else with one that is free.
func local(t testing.TB, ns *testutil.NetNS, port uint16) netip.AddrPort {
	t.Helper()
	if ns != nil {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := netip.MustParseAddrPort(listener.Addr().String())
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return free
}

func (a *API) path(name string) string { return filepath.Join(a.dir, name) }

// certify makes the certificates of the server and of those who call it.
func (a *API) certify(t testing.TB) {
	t.Helper()
	a.pki = newAuthority(t, a.dir)
	a.pki.signer(t)
	hosts := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", ServiceAddress}
	if a.options.Node.IsValid() {
		hosts = append(hosts, a.options.Node.String())
	}
	a.pki.files(t, "apiserver", identity{user: "kube-apiserver", hosts: hosts})
	a.pki.files(t, "kubelet-client", identity{user: "apiserver-kubelet", groups: []string{"system:masters"}})
	a.admin = a.Kubeconfig(t, "admin", "admin", "system:masters")
	cert, key := a.pki.issue(t, identity{user: "admin", groups: []string{"system:masters"}})
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.pki.cert)
	a.client = &http.Client{Timeout: requestTime, Transport: &http.Transport{
		DialContext:     a.Dial,
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
	}}
}

// Kubeconfig writes a file by which a user reaches the server, and returns its path. A cluster's is of use in its network
// namespace only, or with Dial.
func (a *API) Kubeconfig(t testing.TB, name, user string, groups ...string) string {
	t.Helper()
	return a.pki.kubeconfig(t, name, a.URL, identity{user: user, groups: groups})
}

// Admin is the path of the kubeconfig of somebody who may do everything.
func (a *API) Admin() string { return a.admin }

// Dial connects to an address as the server's namespace sees it.
func (a *API) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	dial := func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	}
	if a.options.Net == nil {
		return conn, dial()
	}
	return conn, a.options.Net.Try(dial)
}

// Start starts the server, again after Stop, and waits until it is ready.
func (a *API) Start(t testing.TB) {
	t.Helper()
	at := netip.MustParseAddrPort(a.URL[len("https://"):])
	bind, advertise, reconciler := "127.0.0.1", "192.0.2.1", "none" // nobody reads the address of one that has no pods
	routing := false                                                // to the pods of a webhook's service, which nothing translates here
	if a.options.Net != nil {
		bind, advertise, reconciler, routing = "0.0.0.0", a.options.Node.String(), "lease", true
	}
	a.server.start(t, Program(t, "kube-apiserver"), append([]string{
		"--etcd-servers=http://" + a.peer.String(), "--bind-address=" + bind, "--advertise-address=" + advertise,
		"--secure-port=" + strconv.Itoa(int(at.Port())), "--endpoint-reconciler-type=" + reconciler,
		"--tls-cert-file=" + a.path("apiserver.crt"), "--tls-private-key-file=" + a.path("apiserver.key"), "--client-ca-file=" + a.path("ca.crt"),
		"--service-account-key-file=" + a.path("sa.pub"), "--service-account-signing-key-file=" + a.path("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=" + serviceRange,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--kubelet-client-certificate=" + a.path("kubelet-client.crt"), "--kubelet-client-key=" + a.path("kubelet-client.key"),
		"--kubelet-certificate-authority=" + a.path("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--cert-dir=" + a.path("certs"), "--shutdown-delay-duration=0s",
		"--enable-aggregator-routing=" + strconv.FormatBool(routing),
	}, a.options.Flags...)...)
	a.server.await(t, "the API server is ready", func() error { return a.Get(t.Context(), "/readyz", nil) })
}

// Stop ends the server by a signal. etcd goes on.
func (a *API) Stop(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := a.server.daemon.Stop(signal); err != nil {
		t.Fatal("stopping the API server: ", err)
	}
	a.client.CloseIdleConnections()
}

// Get asks the server for a path (/api/v1/nodes) and, if into is not nil, decodes what it answers.
func (a *API) Get(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking for %s: %s: %s", path, response.Status, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

func (a *API) close(t testing.TB) {
	t.Helper()
	// Asked to end, the server waits for everybody who watches; what it would put in order is removed.
	a.server.close(t, syscall.SIGKILL)
	a.etcd.close(t, syscall.SIGKILL)
	a.client.CloseIdleConnections()
	if err := os.RemoveAll(a.dir); err != nil {
		t.Errorf("removing the API server's files: %v", err)
	}
}
