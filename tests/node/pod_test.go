package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sallyport/sallyport/tests/testutil"
)

// callTime bounds one call of the CRI.
const callTime = 5 * time.Minute

// podSpec says which pod to make.
type podSpec struct {
	name        string
	labels      map[string]string
	annotations map[string]string
	hostNetwork bool
	sharedPIDs  bool
	hostPIDs    bool
}

// pod is a pod of a node.
type pod struct {
	node    *node
	id      string // of its sandbox
	spec    podSpec
	config  *cri.PodSandboxConfig
	address string
}

// container is one that was started in a pod.
type container struct {
	pod  *pod
	id   string
	name string
}

func call(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	t.Cleanup(cancel)
	return ctx
}

// tryPod makes a pod's sandbox.
func (n *node) tryPod(t *testing.T, spec podSpec) (*pod, error) {
	t.Helper()
	n.pods++
	uid := fmt.Sprintf("%08d-0000-4000-8000-000000000000", n.pods)
	labels := map[string]string{
		"io.kubernetes.pod.name": spec.name, "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": uid,
	}
	maps.Copy(labels, spec.labels)
	namespaces := &cri.NamespaceOption{Network: cri.NamespaceMode_POD, Pid: cri.NamespaceMode_CONTAINER}
	hostname := spec.name
	if spec.hostNetwork {
		namespaces.Network, hostname = cri.NamespaceMode_NODE, "" // the node's
	}
	if spec.sharedPIDs {
		namespaces.Pid = cri.NamespaceMode_POD
	}
	if spec.hostPIDs {
		namespaces.Pid = cri.NamespaceMode_NODE
	}
	p := &pod{node: n, spec: spec, config: &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: spec.name, Namespace: "shop", Uid: uid}, LogDirectory: n.path("logs/" + uid),
		Hostname: hostname, Labels: labels, Annotations: spec.annotations,
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    "/" + n.name + "/pod" + uid,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: namespaces},
		},
	}}
	if err := os.Mkdir(p.config.GetLogDirectory(), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx := call(t)
	answer, err := n.cri.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config})
	if err != nil {
		return nil, err
	}
	p.id = answer.GetPodSandboxId()
	status, err := n.cri.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.id})
	if err != nil {
		return nil, err
	}
	p.address = status.GetStatus().GetNetwork().GetIp()
	return p, nil
}

// pod makes a pod's sandbox. Without labels it gets app=web.
func (n *node) pod(t *testing.T, spec podSpec) *pod {
	t.Helper()
	if spec.labels == nil {
		spec.labels = map[string]string{"app": "web"}
	}
	p, err := n.tryPod(t, spec)
	if err != nil {
		t.Fatalf("making pod %s: %v", spec.name, err)
	}
	return p
}

// create makes a container that runs a shell script, and does not start it.
func (p *pod) create(t *testing.T, name, script string) *container {
	t.Helper()
	return p.createWith(t, name, script, p.config.GetLinux().GetSecurityContext().GetNamespaceOptions())
}

// debug runs a container that sees the processes of another, as kubectl debug --target does.
func (p *pod) debug(t *testing.T, name, script string, target *container) *container {
	t.Helper()
	c := p.createWith(t, name, script, &cri.NamespaceOption{Pid: cri.NamespaceMode_TARGET, TargetId: target.id})
	if err := c.tryStart(call(t)); err != nil {
		t.Fatalf("starting container %s of pod %s: %v", name, p.spec.name, err)
	}
	return c
}

func (p *pod) createWith(t *testing.T, name, script string, namespaces *cri.NamespaceOption) *container {
	t.Helper()
	security := &cri.LinuxContainerSecurityContext{NamespaceOptions: namespaces}
	answer, err := p.node.cri.CreateContainer(call(t), &cri.CreateContainerRequest{
		PodSandboxId: p.id, SandboxConfig: p.config,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: name}, Image: &cri.ImageSpec{Image: boxImage, UserSpecifiedImage: boxImage},
			Command: []string{"/bin/sh", "-c", script}, LogPath: name + ".log",
			Labels: map[string]string{
				"io.kubernetes.container.name": name, "io.kubernetes.pod.name": p.spec.name,
				"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": p.config.GetMetadata().GetUid(),
			},
			Linux: &cri.LinuxContainerConfig{SecurityContext: security},
		},
	})
	if err != nil {
		t.Fatalf("creating container %s of pod %s: %v", name, p.spec.name, err)
	}
	return &container{pod: p, id: answer.GetContainerId(), name: name}
}

// tryStart starts a container that was made.
func (c *container) tryStart(ctx context.Context) error {
	_, err := c.pod.node.cri.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: c.id})
	return err
}

// run makes and starts a container that runs a shell script.
func (p *pod) run(t *testing.T, name, script string) *container {
	t.Helper()
	c := p.create(t, name, script)
	if err := c.tryStart(call(t)); err != nil {
		t.Fatalf("starting container %s of pod %s: %v", name, p.spec.name, err)
	}
	return c
}

func (n *node) removePod(ctx context.Context, id string) error {
	if _, err := n.cri.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return err
	}
	_, err := n.cri.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

func (n *node) removeAll(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	list, err := n.cri.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Errorf("listing the pods that are to be removed: %v", err)
		return
	}
	var all sync.WaitGroup
	for _, p := range list.GetItems() {
		all.Go(func() {
			if err := n.removePod(ctx, p.GetId()); err != nil {
				t.Errorf("removing pod %s: %v", p.GetMetadata().GetName(), err)
			}
		})
	}
	all.Wait()
}

// running is the ids of all containers that run.
func (n *node) running(t *testing.T) (ids []string) {
	t.Helper()
	state := &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}
	list, err := n.cri.ListContainers(call(t), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{State: state}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.GetContainers() {
		ids = append(ids, c.GetId())
	}
	return ids
}

// output is what the container's first process and its children have written, without the CRI's marks.
func (c *container) output(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(c.pod.config.GetLogDirectory() + "/" + c.name + ".log")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) { // TIME STREAM TAG TEXT
		if fields := strings.SplitN(line, " ", 4); len(fields) == 4 {
			out.WriteString(fields[3])
		}
	}
	return out.String()
}

// pid is the number of the container's first process on the machine.
func (c *container) pid(t *testing.T) int {
	t.Helper()
	return c.pod.node.pidOf(t, c.id)
}

// pidOf is the number of the first process of a container by its id.
func (n *node) pidOf(t *testing.T, id string) int {
	t.Helper()
	answer, err := n.cri.ContainerStatus(call(t), &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	return pidIn(t, answer.GetInfo()["info"])
}

// execSync runs a program in the container as the kubelet runs exec probes.
func (c *container) execSync(ctx context.Context, args ...string) (testutil.ExecResult, error) {
	answer, err := c.pod.node.cri.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: c.id, Cmd: args, Timeout: int64(callTime.Seconds())})
	if err != nil {
		return testutil.ExecResult{}, err
	}
	return testutil.ExecResult{Stdout: string(answer.GetStdout()), Stderr: string(answer.GetStderr()), Code: int(answer.GetExitCode())}, nil
}

// exec is execSync that must work.
func (c *container) exec(t *testing.T, args ...string) testutil.ExecResult {
	t.Helper()
	result, err := c.execSync(call(t), args...)
	if err != nil {
		t.Fatalf("executing %q in %s: %v", args, c.name, err)
	}
	return result
}

// stream runs a program in the container as kubectl exec does, with or without a terminal, and returns what it wrote
// to standard output.
func (c *container) stream(t *testing.T, tty bool, args ...string) string {
	t.Helper()
	answer, err := c.pod.node.cri.Exec(call(t), &cri.ExecRequest{ContainerId: c.id, Cmd: args, Tty: tty, Stdin: tty, Stdout: true, Stderr: !tty})
	if err != nil {
		t.Fatalf("executing %q in %s: %v", args, c.name, err)
	}
	at, err := url.Parse(answer.GetUrl())
	if err != nil {
		t.Fatal(err)
	}
	var conn net.Conn
	c.pod.node.net.Node.Do(t, func() error {
		conn, err = net.Dial("tcp", at.Host)
		return err
	})
	at.Scheme = "ws"
	config, err := websocket.NewConfig(at.String(), "http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{"v4.channel.k8s.io"}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatalf("streaming %q in %s: %v", args, c.name, err)
	}
	defer func() { _ = ws.Close() }() // everything was read
	if err := ws.SetDeadline(time.Now().Add(callTime)); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for {
		var frame []byte
		if err := websocket.Message.Receive(ws, &frame); err != nil {
			return out.String()
		}
		const stdout = 1 // the first byte of a frame is its channel
		if len(frame) > 1 && frame[0] == stdout {
			out.Write(frame[1:])
		}
	}
}
