package kube

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"weak"

	corev1 "k8s.io/api/core/v1"

	"github.com/sallyport/sallyport/runtime/identity"
)

// Pod is a pod of the cluster.
type Pod struct {
	*Template
	Name      string
	Addresses []netip.Addr // its own: none in the network of its node, and none after its end
	Local     *LocalPod    // nil: it is on another node
}

// Template is what pods that were made alike have in common. Many pods share one.
type Template struct {
	Namespace      string
	ServiceAccount string
	Labels         map[string]string
	Ports          []Port
}

// Port is a port with a name.
type Port struct {
	Name     string
	Protocol string // TCP, UDP or SCTP
	Number   uint16
}

// LocalPod is what is kept of a pod of this node beyond that.
type LocalPod struct {
	UIDs        []string // by which its runtime may know it: a static pod's is not that of its object
	HostNetwork bool
	Containers  []PodContainer
}

// PodContainer is a container as the pod's spec has it.
type PodContainer struct {
	Name   string
	Type   identity.Type
	Probes [][]string // commands of its exec probes and lifecycle hooks
}

// annotationHash holds the uid by which the kubelet and the runtime know a static pod.
const annotationHash = "kubernetes.io/config.hash"

// podTrimmer trims pods. It belongs to one reflector.
type podTrimmer struct {
	node  string
	known map[[sha256.Size]byte]weak.Pointer[Template]
	sweep int // number of templates at which those that are gone are looked for
}

const leastSweep = 1024

func newPodTrimmer(node string) *podTrimmer {
	return &podTrimmer{node: node, known: map[[sha256.Size]byte]weak.Pointer[Template]{}, sweep: leastSweep}
}

// trim keeps what is needed of a pod.
func (r *podTrimmer) trim(obj any) (*Pod, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("a pod is %T", obj)
	}
	out := &Pod{Template: r.template(p), Name: p.Name}
	if ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed; !p.Spec.HostNetwork && !ended {
		for _, ip := range p.Status.PodIPs {
			out.Addresses = appendAddress(out.Addresses, ip.IP)
		}
	}
	if p.Spec.NodeName == r.node {
		out.Local = localPod(p)
	}
	return out, nil
}

// appendAddress appends an address. What is none was not made by the API's own validation, and belongs to nobody.
func appendAddress(list []netip.Addr, text string) []netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return list
	}
	return append(list, a.Unmap())
}

// template returns the template of a pod: one that is there already, or a new one.
func (r *podTrimmer) template(p *corev1.Pod) *Template {
	h := sha256.New()
	write := func(texts ...string) {
		for _, s := range texts {
			fmt.Fprintf(h, "%d:%s", len(s), s)
		}
	}
	write(p.Namespace, p.Spec.ServiceAccountName)
	for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
		write(key, p.Labels[key])
	}
	ports := podPorts(p)
	for _, port := range ports {
		fmt.Fprintf(h, "/%s %s %d", port.Name, port.Protocol, port.Number)
	}
	key := [sha256.Size]byte(h.Sum(nil))
	if t := r.known[key].Value(); t != nil {
		return t
	}
	if len(r.known) >= r.sweep {
		maps.DeleteFunc(r.known, func(_ [sha256.Size]byte, t weak.Pointer[Template]) bool { return t.Value() == nil })
		r.sweep = max(leastSweep, 2*len(r.known))
	}
	labels, _ := identity.BoundLabels(p.Labels)
	t := &Template{Namespace: p.Namespace, ServiceAccount: p.Spec.ServiceAccountName, Labels: labels, Ports: ports}
	r.known[key] = weak.Make(t)
	return t
}

// podPorts lists the ports that have names.
func podPorts(p *corev1.Pod) (out []Port) {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for _, port := range list[i].Ports {
				if port.Name != "" {
					out = append(out, Port{port.Name, string(port.Protocol), uint16(port.ContainerPort)}) // the API bounds it
				}
			}
		}
	}
	return out
}

func localPod(p *corev1.Pod) *LocalPod {
	l := &LocalPod{UIDs: []string{string(p.UID)}, HostNetwork: p.Spec.HostNetwork}
	if hash := p.Annotations[annotationHash]; hash != "" && hash != string(p.UID) {
		l.UIDs = append(l.UIDs, hash)
	}
	for i := range p.Spec.InitContainers {
		c, kind := &p.Spec.InitContainers[i], identity.TypeInit
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			kind = identity.TypeSidecar
		}
		l.Containers = append(l.Containers, PodContainer{c.Name, kind, probesOf(c)})
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		l.Containers = append(l.Containers, PodContainer{c.Name, identity.TypeApp, probesOf(c)})
	}
	for i := range p.Spec.EphemeralContainers {
		l.Containers = append(l.Containers, PodContainer{Name: p.Spec.EphemeralContainers[i].Name, Type: identity.TypeEphemeral})
	}
	return l
}

// probesOf lists the commands that the kubelet runs in a container.
func probesOf(c *corev1.Container) (out [][]string) {
	add := func(e *corev1.ExecAction) {
		if e != nil && len(e.Command) > 0 {
			out = append(out, slices.Clone(e.Command))
		}
	}
	for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if p != nil {
			add(p.Exec)
		}
	}
	if c.Lifecycle == nil {
		return out
	}
	for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
		if h != nil {
			add(h.Exec)
		}
	}
	return out
}

// Namespace is a namespace.
type Namespace struct {
	Name   string
	Labels map[string]string
}

func trimNamespace(obj any) (*Namespace, error) {
	n, ok := obj.(*corev1.Namespace)
	if !ok {
		return nil, fmt.Errorf("a namespace is %T", obj)
	}
	labels, _ := identity.BoundLabels(n.Labels)
	return &Namespace{n.Name, labels}, nil
}

// Node is a node.
type Node struct {
	Name      string
	Addresses []netip.Addr   // of the node itself
	Health    []netip.Addr   // of its network's own health checks
	PodCIDRs  []netip.Prefix // that its pods' addresses come from
	Tainted   bool           // it has the startup taint
}

// Annotations in which Cilium's agents keep addresses of a node that its object does not have.
func ciliumNode() []string {
	return []string{"network.cilium.io/ipv4-cilium-host", "network.cilium.io/ipv6-cilium-host"}
}

func ciliumHealth() []string {
	return []string{"network.cilium.io/ipv4-health-ip", "network.cilium.io/ipv6-health-ip"}
}

// nodeTrimmer keeps of a node what is needed, and whether it has the taint of a key; "": it has none.
func nodeTrimmer(taint string) func(obj any) (*Node, error) {
	return func(obj any) (*Node, error) {
		n, ok := obj.(*corev1.Node)
		if !ok {
			return nil, fmt.Errorf("a node is %T", obj)
		}
		out := trimNode(n)
		out.Tainted = slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return taint != "" && t.Key == taint })
		return out, nil
	}
}

func trimNode(n *corev1.Node) *Node {
	out := &Node{Name: n.Name}
	for _, a := range n.Status.Addresses {
		out.Addresses = appendAddress(out.Addresses, a.Address) // names among them are none
	}
	for _, key := range ciliumNode() {
		out.Addresses = appendAddress(out.Addresses, n.Annotations[key])
	}
	for _, key := range ciliumHealth() {
		out.Health = appendAddress(out.Health, n.Annotations[key])
	}
	for _, text := range n.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil {
			out.PodCIDRs = append(out.PodCIDRs, p.Masked())
		}
	}
	return out
}
