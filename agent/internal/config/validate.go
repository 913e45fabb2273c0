package config

import (
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of numbers. The upper ones keep a typing error from taking the node's memory: kernel maps
// are allocated when they are made.
const (
	minEntries      = 64
	maxEntries      = 1 << 24
	minRingBytes    = 64 << 10 // the largest page size there is: a ring is a number of pages
	maxRingBytes    = 1 << 30
	minQueue        = 2
	maxQueue        = 1 << 20
	maxAppName      = 48 // RFC 5424 section 6
	maxPEN          = 1<<32 - 1
	maxPort         = 1<<16 - 1
	maxSocket       = 107   // sockaddr_un.sun_path without its NUL
	maxTunnelNames  = 10000 // two bytes of each domain of a container for each
	maxTunnelWindow = 24 * time.Hour
	maxNames        = 32768 // of all containers together, as bpf/include/maps/names.h has room for
	maxLeastTTL     = 24 * time.Hour
	maxNodeName     = 253
	maxTaintName    = 63 // after the prefix
	maxHeaders      = 4
	maxHeaderName   = 40
)

// Bounds of runtime.nri.timeout: a shorter one refuses what only takes its time, a longer one is beyond the
// patience of every runtime.
const (
	minNRITimeout = 50 * time.Millisecond
	maxNRITimeout = 30 * time.Second
)

// checker gathers what is wrong with values.
type checker struct {
	sources sources
	errs    []error
}

func (c *checker) fail(key, hint, format string, args ...any) {
	c.errs = append(c.errs, &Error{Source: c.sources.of(key), Key: key, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// validate checks every value and how values go together.
func (c Config) validate(s sources) error {
	k := &checker{sources: s}
	k.path("policies.dir", c.Policies.Dir)
	k.steps(c.Enforcement.Steps)
	oneOf(k, "enforcement.unknownWorkload", c.Enforcement.UnknownWorkload, UnknownAllow, UnknownDeny)
	oneOf(k, "enforcement.borrowing", c.Enforcement.Borrowing, BorrowRefuse, BorrowAudit, BorrowAllow)
	oneOf(k, "enforcement.relaying", c.Enforcement.Relaying, RelayAudit, RelayAllow)
	oneOf(k, "enforcement.fronting", c.Enforcement.Fronting, FrontDeny, FrontAudit, FrontAllow)
	oneOf(k, "protect.access", c.Protect.Access, AccessRefuse, AccessAudit, AccessAllow)
	k.kernel(c.Kernel)
	k.runtime(c.Runtime)
	k.nri(c)
	k.kube(c.Kube)
	k.webhook(c.Webhook)
	k.names(c.Names)
	k.alerts(c.Alerts)
	k.headers(c.Visibility.Headers)
	k.socket("api.socket", c.API.Socket)
	if c.Metrics.Address != "" {
		k.hostPort("metrics.address", c.Metrics.Address)
	}
	oneOf(k, "log.level", c.Log.Level, LevelError, LevelWarn, LevelInfo, LevelDebug)
	oneOf(k, "log.format", c.Log.Format, FormatAuto, FormatText, FormatJSON)
	return errors.Join(k.errs...)
}

// steps checks that the steps are some of the ladder's in the ladder's order: a step down must
// never be stronger than the one before.
func (c *checker) steps(steps []Step) {
	const key = "enforcement.steps"
	all := ladder()
	if len(steps) == 0 {
		c.fail(key, "for an agent that stops nothing write [report]", "is empty")
		return
	}
	last := -1
	for _, s := range steps {
		place := slices.Index(all, s)
		switch {
		case place < 0:
			c.fail(key, "there are "+list(all), "%s is no step", quote(string(s)))
			return
		case place <= last:
			c.fail(key, "the order is "+strings.ReplaceAll(list(all), " or ", ", "), "%s stands twice or after a weaker step", s)
			return
		}
		last = place
	}
}

func (c *checker) kernel(k Kernel) {
	c.path("kernel.bpffs", k.BPFFS)
	if k.PinDir == "" || k.PinDir == "." || k.PinDir == ".." || strings.ContainsAny(k.PinDir, "/\x00") || len(k.PinDir) > 255 {
		c.fail("kernel.pinDir", "it is one folder below kernel.bpffs, such as sallyport", "%s is no name of a folder", quote(k.PinDir))
	}
	if k.CgroupRoot != CgroupAuto {
		c.path("kernel.cgroupRoot", k.CgroupRoot)
	}
	c.between("kernel.maps.flows", k.Maps.Flows, minEntries, maxEntries)
	c.between("kernel.maps.containers", k.Maps.Containers, minEntries, maxEntries)
	c.ring("kernel.maps.alertsRingBytes", k.Maps.AlertsRingBytes)
	c.ring("kernel.maps.flowsRingBytes", k.Maps.FlowsRingBytes)
}

// ring checks the size of a ring buffer.
func (c *checker) ring(key string, n int) {
	if n < minRingBytes || n > maxRingBytes || n&(n-1) != 0 {
		c.fail(key, "", "%d is no power of two from %d to %d", n, minRingBytes, maxRingBytes)
	}
}

func (c *checker) runtime(r Runtime) {
	c.socket("runtime.containerd.socket", r.Containerd.Socket)
	for _, name := range r.Containerd.Namespaces {
		if name == "" || len(name) > 76 {
			c.fail("runtime.containerd.namespaces", "leave the list empty for all", "%s is no name of a namespace", quote(name))
		}
	}
	if r.Containerd.ReconnectMin <= 0 {
		c.fail("runtime.containerd.reconnectMin", "", "%s is not above zero", r.Containerd.ReconnectMin)
	}
	if r.Containerd.ReconnectMax < r.Containerd.ReconnectMin {
		c.fail("runtime.containerd.reconnectMax", "", "%s is less than reconnectMin, %s", r.Containerd.ReconnectMax, r.Containerd.ReconnectMin)
	}
	for _, parent := range r.ContainerParents {
		c.path("runtime.containerParents", parent)
	}
}

// nri checks the plugin. To refuse needs unknownWorkload: deny too: a runtime goes on without a plugin that
// does not answer at all, and then only the kernel is left to say no.
func (c *checker) nri(all Config) {
	n := all.Runtime.NRI
	oneOf(c, "runtime.nri.enabled", n.Enabled, PresenceAuto, PresenceAlways, PresenceNever)
	c.socket("runtime.nri.socket", n.Socket)
	if n.Timeout < minNRITimeout || n.Timeout > maxNRITimeout {
		c.fail("runtime.nri.timeout", "", "%s is not from %s to %s", n.Timeout, minNRITimeout, maxNRITimeout)
	}
	oneOf(c, "runtime.nri.onTimeout", n.OnTimeout, OnTimeoutAdmit, OnTimeoutRefuse)
	if n.Enabled != PresenceNever && n.OnTimeout == OnTimeoutRefuse && all.Enforcement.UnknownWorkload != UnknownDeny {
		c.fail("runtime.nri.onTimeout", "set enforcement.unknownWorkload to deny",
			"refuse would let a container start ungoverned while the agent does not answer at all")
	}
}

func (c *checker) kube(k Kube) {
	oneOf(c, "kube.enabled", k.Enabled, PresenceAuto, PresenceAlways, PresenceNever)
	if k.Kubeconfig != "" {
		c.path("kube.kubeconfig", k.Kubeconfig)
	}
	if len(k.NodeName) > maxNodeName {
		c.fail("kube.nodeName", "", "is longer than the %d bytes that the name of a node can have", maxNodeName)
	}
	if len(k.CallsNamespace) > maxNodeName {
		c.fail("kube.callsNamespace", "", "is longer than the %d bytes that a name can have", maxNodeName)
	}
	if prefix, name, _ := strings.Cut(k.StartupTaint, "/"); k.StartupTaint != "" && (len(prefix) > maxNodeName || len(name) > maxTaintName || name == "") {
		c.fail("kube.startupTaint", "such as sallyport.dev/not-ready", "%s is no key of a taint", quote(k.StartupTaint))
	}
	if k.StaleAfter <= 0 {
		c.fail("kube.staleAfter", "", "%s is not above zero", k.StaleAfter)
	}
}

func (c *checker) webhook(w Webhook) {
	c.hostPort("webhook.address", w.Address)
	c.path("webhook.cert", w.Cert)
	c.path("webhook.key", w.Key)
}

func (c *checker) names(n Names) {
	c.between("names.perContainer", n.PerContainer, 1, maxNames)
	if n.LeastTTL < 0 || n.LeastTTL > maxLeastTTL {
		c.fail("names.leastTTL", "", "%s is not from 0s to %s", n.LeastTTL, maxLeastTTL)
	}
	c.between("names.tunnel.names", n.Tunnel.Names, 0, maxTunnelNames)
	c.between("names.tunnel.entropy", n.Tunnel.Entropy, 0, 8) // bits of a byte
	if n.Tunnel.Window < time.Second || n.Tunnel.Window > maxTunnelWindow {
		c.fail("names.tunnel.window", "", "%s is not from 1s to %s", n.Tunnel.Window, maxTunnelWindow)
	}
}

func (c *checker) alerts(a Alerts) {
	if a.JSONL.Path != PathStdout {
		c.path("alerts.jsonl.path", a.JSONL.Path)
	}
	c.between("alerts.jsonl.maxSizeMB", a.JSONL.MaxSizeMB, 1, 1<<20)
	c.between("alerts.jsonl.maxBackups", a.JSONL.MaxBackups, 0, 1<<20)
	c.between("alerts.jsonl.maxAgeDays", a.JSONL.MaxAgeDays, 0, 1<<20)
	c.between("alerts.queue", a.Queue, minQueue, maxQueue)
	c.syslog(a.Syslog)
}

// headers checks the names of headers whose values are told. Those that prove who somebody is never are.
func (c *checker) headers(names []string) {
	const key = "visibility.headers"
	if len(names) > maxHeaders {
		c.fail(key, "", "there are %d, at most %d can be told", len(names), maxHeaders)
	}
	for i, name := range names {
		switch {
		case name == "" || len(name) > maxHeaderName || strings.ContainsFunc(name, noHeaderName):
			c.fail(key, "such as x-request-id", "%s is no name of a header in lower case, of at most %d bytes", quote(name), maxHeaderName)
		case slices.Contains(secretHeaders(), strings.ToLower(name)):
			c.fail(key, "", "%s carries secrets, which are never told", name)
		case name == "host":
			c.fail(key, "", "host is told of every request")
		case slices.Contains(names[:i], name):
			c.fail(key, "", "%s stands twice", name)
		}
	}
}

// secretHeaders are headers whose values let whoever reads them act for somebody.
func secretHeaders() []string {
	return []string{"authorization", "proxy-authorization", "cookie", "set-cookie"}
}

// noHeaderName says of a character that no name of a header has it in lower case (RFC 9110, 5.6.2).
func noHeaderName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func (c *checker) syslog(s Syslog) {
	oneOf(c, "alerts.syslog.network", s.Network, NetworkUnix, NetworkUDP, NetworkTCP, NetworkTLS)
	if s.Network == NetworkUnix {
		c.socket("alerts.syslog.address", s.Address)
	} else {
		c.hostPort("alerts.syslog.address", s.Address)
	}
	oneOf(c, "alerts.syslog.facility", s.Facility, facilities()...)
	printable := func(r rune) bool { return r < '!' || r > '~' }
	if s.AppName == "" || len(s.AppName) > maxAppName || strings.ContainsFunc(s.AppName, printable) {
		c.fail("alerts.syslog.appName", "", "%s is not 1 to %d printable ASCII characters", quote(s.AppName), maxAppName)
	}
	c.between("alerts.syslog.enterpriseID", s.EnterpriseID, 1, maxPEN)
	for _, file := range []struct{ key, path string }{{"ca", s.TLS.CA}, {"cert", s.TLS.Cert}, {"key", s.TLS.Key}} {
		if file.path != "" {
			c.path("alerts.syslog.tls."+file.key, file.path)
		}
	}
	if (s.TLS.Cert == "") != (s.TLS.Key == "") {
		c.fail("alerts.syslog.tls.cert", "", "a client certificate needs both cert and key")
	}
}

// facilities lists the syslog facilities. The kernel's own cannot be used.
func facilities() []string {
	return []string{
		"user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
	}
}

// path checks that a path is absolute and means one thing.
func (c *checker) path(key, p string) bool {
	hint := ""
	if path.IsAbs(p) {
		hint = "write " + path.Clean(p)
	}
	if p == "" || !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		c.fail(key, hint, "%s is no absolute path without . and ..", quote(p))
		return false
	}
	return true
}

func (c *checker) socket(key, p string) {
	if c.path(key, p) && len(p) > maxSocket {
		c.fail(key, "", "is longer than the %d bytes that the path of a socket can have", maxSocket)
	}
}

func (c *checker) hostPort(key, address string) {
	_, port, err := net.SplitHostPort(address)
	n, numberErr := strconv.Atoi(port)
	if err != nil || numberErr != nil || n < 1 || n > maxPort {
		c.fail(key, "an IPv6 address stands in brackets", "%s is not host:port", quote(address))
	}
}

func (c *checker) between(key string, n, least, most int) {
	if n < least || n > most {
		c.fail(key, "", "%d is not from %d to %d", n, least, most)
	}
}

func oneOf[T ~string](c *checker, key string, value T, words ...T) {
	if !slices.Contains(words, value) {
		c.fail(key, "", "%s is none of %s", quote(string(value)), strings.ReplaceAll(list(words), " or ", ", "))
	}
}
