package nri

import (
	"time"

	"github.com/containerd/nri/pkg/api"

	"github.com/sallyport/sallyport/runtime/identity"
)

// containerd calls plugins for what its CRI plugin makes, which is all in this namespace of it.
const (
	containerd   = "containerd"
	criNamespace = "k8s.io"
	imageOfCRI   = "io.kubernetes.cri.image-name" // annotation
	maxName      = 512                            // bytes that are kept of a name
)

// describe says what the runtime tells of a container; where it is on the node, locate says. It says the same as
// runtime/containerd does of the same container: a difference would make tables anew.
func (h *handler) describe(pod *api.PodSandbox, c *api.Container) identity.Container {
	d := h.ofPod(pod, c.GetId())
	d.Name, d.Image = clip(c.GetName()), clip(c.GetAnnotations()[imageOfCRI])
	if image := c.GetImage().GetName(); image != "" {
		d.Image = clip(image)
	}
	if at := c.GetCreatedAt(); at > 0 {
		d.CreatedAt = time.Unix(0, at)
	}
	var err error
	if d.Probes, err = identity.ParseProbes(pod.GetAnnotations(), d.Name); err != nil {
		// Fails closed: its probes are taken for Exec.
		h.log.WithError(err).WithField("container", d.ID).Warn("a container's probes are not known")
	}
	return d
}

// sandbox describes and locates a pod's sandbox, if it has a process.
func (h *handler) sandbox(pod *api.PodSandbox) (identity.Container, bool) {
	if pod.GetPid() == 0 {
		return identity.Container{}, false
	}
	d := h.ofPod(pod, pod.GetId())
	d.Name, d.Type, d.Running = d.ID, identity.TypeSandbox, true
	if err := h.cfg.Locator.Locate(&d, pod.GetPid(), pod.GetLinux().GetCgroupsPath()); err != nil {
		// Closed: the pod's containers are governed, and each has rules for the node's processes too.
		h.log.WithError(err).Debug("a pod's sandbox cannot be located")
		return d, false
	}
	return d, true
}

// ofPod is what all containers of a pod share.
func (h *handler) ofPod(pod *api.PodSandbox, id string) identity.Container {
	h.mu.Lock()
	runtime := h.runtime
	h.mu.Unlock()
	d := identity.Container{
		ID: id, Runtime: runtime, Type: identity.TypeApp,
		Pod: identity.Pod{Namespace: clip(pod.GetNamespace()), Name: clip(pod.GetName()), UID: clip(pod.GetUid())},
	}
	if runtime == containerd {
		d.Namespace = criNamespace
	}
	var dropped int
	if d.Labels, dropped = identity.PodLabels(pod.GetLabels()); dropped > 0 {
		h.log.WithField("container", id).WithField("labels", dropped).Warn("a pod has too many labels; policies cannot select by all of them")
	}
	return d
}

func (h *handler) locate(d *identity.Container, c *api.Container) error {
	return h.cfg.Locator.Locate(d, c.GetPid(), c.GetLinux().GetCgroupsPath())
}

func clip(s string) string { return s[:min(len(s), maxName)] }
