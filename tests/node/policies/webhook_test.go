package policies

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/node/kubernetes"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

// webhook is a webhook that an API server asks.
type webhook struct {
	dir, address string
	daemon       *testutil.Daemon
}

// certify makes a certificate for loopback, and returns it as PEM.
func certify(t *testing.T, dir string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	for name, data := range map[string][]byte{"tls.crt": text, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return text
}

// newWebhook starts a webhook with the rights that the chart gives it, and tells the API to ask it.
func newWebhook(t *testing.T, api *kubernetes.API, requirePolicy bool) *webhook {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &webhook{dir: t.TempDir(), address: listener.Addr().String()}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	authority := certify(t, w.dir)
	config := fmt.Sprintf("kube: {kubeconfig: %s, callsNamespace: sallyport}\nwebhook: {address: %q, cert: %s/tls.crt, key: %s/tls.key, requirePolicy: %t}\n",
		api.Kubeconfig(t, "webhook", "system:serviceaccount:sallyport:sallyport-webhook"), w.address, w.dir, w.dir, requirePolicy)
	if err := os.WriteFile(w.dir+"/config.yaml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	t.Cleanup(func() { w.stop(t) })
	text := kubernetes.Manifests(t, "--show-only", "templates/webhook.yaml", "--set", fmt.Sprintf(
		"webhook.enabled=true,webhook.secret=own,webhook.requirePolicy=%t,webhook.caBundle=%s", requirePolicy, base64.StdEncoding.EncodeToString(authority)))
	api.Apply(t, strings.ReplaceAll(text, "service: {name: sallyport-webhook, namespace: sallyport, path: /review, port: 443}", "url: https://"+w.address+"/review"))
	return w
}

func (w *webhook) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(w.dir+"/log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program.Binary(t), "webhook", "--config", w.dir+"/config.yaml")
	cmd.Stdout, cmd.Stderr = log, log
	if w.daemon, err = testutil.StartDaemon(testutil.DaemonSpec{Cmd: cmd}); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "the webhook answers", func() error {
		conn, err := net.Dial("tcp", w.address)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}

func (w *webhook) stop(t *testing.T) {
	t.Helper()
	if err := w.daemon.Stop(syscall.SIGTERM); err != nil {
		t.Errorf("stopping the webhook: %v", err)
	}
	if log, err := os.ReadFile(w.dir + "/log"); err == nil && t.Failed() {
		t.Logf("the webhook wrote:\n%s", log)
	}
}

const pod = `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: node-1, automountServiceAccountToken: false, containers: [{name: app, image: x}]}
`

// TestTheWebhook has an API that asks about policies before it stores them, and about calls into pods.
func TestTheWebhook(t *testing.T) {
	api := newAPI(t)
	w := newWebhook(t, api, false)
	api.Apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default, namespace: shop}\n---\n"+pod)
	testutil.Eventually(t, "a wrong policy is refused", func() error {
		r, err := api.Kubectl(t, broken, "apply", "-f", "-")
		if err == nil && (r.Code == 0 || !strings.Contains(r.Stderr, "broken: spec.rules[0].egress[0].toFQDNs[0].matchPattern: ")) {
			api.Must(t, "delete", "clusterprocesspolicy", "broken", "--ignore-not-found")
			err = fmt.Errorf("exit code %d: %s", r.Code, r.Stderr)
		}
		return err
	})
	api.Apply(t, good)
	if r, err := api.Kubectl(t, unsupported, "apply", "-f", "-"); err != nil || r.Code != 0 || !strings.Contains(r.Stderr, "Warning: rule HostProcessPolicy:host/job: processes[].scripts is enforced only on kernels") {
		t.Errorf("what is right, and not enforced here: %v, %+v", err, r)
	}

	// There is no kubelet: the call itself comes to nothing, after the API has asked.
	if _, err := api.Kubectl(t, "", "exec", "-n", "shop", "web", "-c", "app", "--", "sh", "-c", "id"); err != nil {
		t.Fatal(err)
	}
	var events struct {
		Items []struct {
			Message  string
			Metadata struct{ Annotations map[string]string }
		}
	}
	testutil.Eventually(t, "the call is told", func() error {
		return json.Unmarshal([]byte(api.Must(t, "get", "events", "-n", "sallyport", "--field-selector=reason=SallyportCall", "-o", "json")), &events)
	})
	// kubectl tries a second protocol when the first comes to nothing.
	if len(events.Items) == 0 || events.Items[0].Message != "admin: exec into shop/web app" || !strings.Contains(events.Items[0].Metadata.Annotations["sallyport.dev/call"], `"Args":["sh","-c","id"]`) {
		t.Errorf("told is %+v", events)
	}

	// While it is down nobody is stopped.
	w.stop(t)
	api.Apply(t, broken)
	r, err := api.Kubectl(t, "", "exec", "-n", "shop", "web", "-c", "app", "--", "id")
	if err != nil || strings.Contains(r.Stderr, "webhook") {
		t.Errorf("calling while the webhook is down: %v, %s", err, r.Stderr)
	}
	w.start(t)
}

// TestCallsNeedAPolicy has a webhook that refuses calls into pods that no policy selects.
func TestCallsNeedAPolicy(t *testing.T) {
	api := newAPI(t)
	newWebhook(t, api, true)
	api.Apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: default, namespace: shop}\n---\n"+pod)
	until := func(what string, refused bool) {
		t.Helper()
		testutil.Eventually(t, what, func() error {
			r, err := api.Kubectl(t, "", "exec", "-n", "shop", "web", "-c", "app", "--", "id")
			if err == nil && strings.Contains(r.Stderr, "no policy of Sallyport selects the pod") != refused {
				err = fmt.Errorf("it is %s", r.Stderr)
			}
			return err
		})
	}
	until("a call is refused", true)
	api.Apply(t, good)
	until("a call passes", false)
}
