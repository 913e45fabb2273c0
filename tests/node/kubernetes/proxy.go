package kubernetes

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// proxyHealth is where kube-proxy answers once it runs.
const proxyHealth = "127.0.0.1:10256"

// StartProxy starts kube-proxy and waits until it runs. It translates the addresses of services with iptables (Debian's
// package of that name) in the node's network namespace; what comes from the pods' prefix keeps its address. Limits of
// connection tracking, which are the machine's, stay as they are.
func (c *Cluster) StartProxy(t testing.TB, pods netip.Prefix) {
	t.Helper()
	for _, name := range []string{"iptables", "ip6tables"} {
		if _, err := testutil.LookPath(name); err != nil {
			testutil.Unsupported(t, "iptables", err.Error())
		}
	}
	proxy := c.component("kube-proxy", c.options.Mounts)
	t.Cleanup(func() { proxy.close(t, syscall.SIGTERM) })
	c.pki.write(t, "kube-proxy.yaml", fmt.Appendf(nil, `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %q}
hostnameOverride: %s
mode: iptables
detectLocalMode: ClusterCIDR
clusterCIDR: %s
nodePortAddresses: [primary]
healthzBindAddress: %s
metricsBindAddress: 127.0.0.1:10249
iptables: {localhostNodePorts: false}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, c.Kubeconfig(t, "kube-proxy", "system:kube-proxy"), NodeName, pods, proxyHealth))
	proxy.start(t, Program(t, "kube-proxy"), "--config="+c.path("kube-proxy.yaml"))
	proxy.await(t, "kube-proxy runs", func() error {
		conn, err := c.Dial(t.Context(), "tcp", proxyHealth)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}
