package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sallyport/sallyport/tests/node/kubernetes"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
	"github.com/sallyport/sallyport/tests/victim"
)

const (
	boxImage   = "test.local/box:1"
	pauseImage = "test.local/pause:1"
	cniDir     = "/usr/lib/cni"
	bridge     = "sp-cni0"
	podSubnet  = "10.88.7.0/24"
	startTime  = time.Minute // far more than any daemon needs to start or end
	// pluginTimeout is how long containerd waits for an NRI plugin.
	pluginTimeout = 2 * time.Second
)

// node is a node of a cluster, without its kubelet: a network with a server outside, and a containerd that makes pods.
type node struct {
	net     *testutil.Net
	release release
	dir     string
	name    string            // of the cgroup above all pods, unique
	hook    []string          // arguments of sallyport-hook createRuntime, which runc calls; nil: it calls none
	taints  string            // of its Kubernetes node at the start, as a kubelet's registerWithTaints in YAML
	cni     string            // plugin that connects its pods; "": bridge
	kubelet bool              // it gets one, and what that needs is sealed off
	over    map[string]string // what lies over what else in the mount namespace of its daemons, over what, from where
	mounts  *testutil.MountNS
	unmount []string // at the end
	daemon  *testutil.Daemon
	conn    *grpc.ClientConn
	cri     cri.RuntimeServiceClient
	pods    int
}

// newNode makes a node; configure changes it before containerd starts. At the end its pods and everything of it go.
func newNode(t *testing.T, r release, configure ...func(*node)) *node {
	t.Helper()
	testutil.RequireRoot(t)
	if _, err := os.Stat(filepath.Join(cniDir, "bridge")); err != nil {
		testutil.Unsupported(t, "cni", err.Error())
	}
	dir, err := os.MkdirTemp("", "sallyport-") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	n := &node{release: r, dir: dir, name: testutil.UniqueName(), over: map[string]string{}, net: testutil.NewNet(t, testutil.NetOptions{})}
	t.Cleanup(func() { n.close(t) })
	for _, sub := range []string{"run", "netns", "cni", "nri", "nri-conf", "logs"} {
		if err := os.Mkdir(n.path(sub), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	for _, change := range configure {
		change(n)
	}
	n.write(t, "cni/10-test.conflist", fmt.Sprintf(`{"cniVersion":"0.4.0","name":"test","plugins":[{"type":%q,"bridge":%q,
"isGateway":true,"hairpinMode":true,"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"}]}}]}`,
		cmp.Or(n.cni, "bridge"), bridge, n.path("ipam"), podSubnet))
	n.writeHook(t)
	n.write(t, "config.toml", n.config())
	n.seal(t)
	n.start(t)
	n.image(t, testutil.ImageSpec{Ref: pauseImage, Command: []string{"/bin/tail", "-f", "/dev/null"}})
	n.image(t, testutil.ImageSpec{Ref: boxImage, Files: []testutil.File{{Path: "/bin/victim", Source: victim.Build(t)}}})
	return n
}

// seal makes the mount namespace of the node's daemons. What they would share with the machine lies elsewhere in it.
func (n *node) seal(t *testing.T) {
	t.Helper()
	maps.Copy(n.over, map[string]string{"/run/containerd": n.path("run"), "/run/netns": n.path("netns")})
	if n.kubelet {
		maps.Copy(n.over, kubernetes.Sealed(t, n.dir))
		n.bpffs(t)
	}
	n.mounts = testutil.NewMountNS(t, n.over)
}

// bpffs gives the node a BPF file system, for an agent that is a pod.
func (n *node) bpffs(t *testing.T) {
	t.Helper()
	at := n.path("bpf")
	err := os.Mkdir(at, 0o700)
	if err == nil {
		err = unix.Mount("bpf", at, "bpf", 0, "")
	}
	if err != nil {
		t.Fatal("mounting a BPF file system: ", err)
	}
	n.unmount = append(n.unmount, at)
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

func (n *node) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(n.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (n *node) socket() string { return n.path("containerd.sock") }

// config is containerd's configuration. A machine of the tests may lack CAP_SYS_RESOURCE and AppArmor.
func (n *node) config() string {
	common := fmt.Sprintf("root = %q\nstate = %q\n[grpc]\n  address = %q\n[ttrpc]\n  address = %q\n",
		n.path("root"), n.path("state"), n.socket(), n.socket()+".ttrpc")
	nri := fmt.Sprintf(`[plugins."io.containerd.nri.v1.nri"]
  disable = false
  socket_path = %q
  plugin_path = %q
  plugin_config_path = %q
  plugin_request_timeout = %q
`, n.nriSocket(), n.path("nri"), n.path("nri-conf"), pluginTimeout)
	if !n.release.nri {
		nri = ""
	}
	if n.release.config == 2 {
		return fmt.Sprintf(`version = 2
disabled_plugins = ["io.containerd.internal.v1.opt"]
%[1]s[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[2]q
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[3]q
    conf_dir = %[4]q
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      %[5]s
%[6]s`, common, pauseImage, cniDir, n.path("cni"), n.baseSpec(), nri)
	}
	return fmt.Sprintf(`version = 3
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs"]
%[1]s[plugins."io.containerd.cri.v1.images"]
  snapshotter = "native"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = %[2]q
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [%[3]q]
    conf_dir = %[4]q
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    %[5]s
%[6]s`, common, pauseImage, cniDir, n.path("cni"), n.baseSpec(), nri)
}

// baseSpec is the line that names a spec with the hook.
func (n *node) baseSpec() string {
	if n.hook == nil {
		return ""
	}
	return fmt.Sprintf("base_runtime_spec = %q", n.path("spec.json"))
}

// writeHook writes that spec, as an operator does.
func (n *node) writeHook(t *testing.T) {
	t.Helper()
	if n.hook == nil {
		return
	}
	cmd := exec.Command("../../contrib/hooks/containerd-spec.sh", append(n.hook, "--socket="+n.agentSocket())...)
	cmd.Env = append(os.Environ(), "HOOK="+program.Hook(t), "CTR="+n.program(t, "ctr"))
	spec, err := cmd.Output()
	if err != nil {
		t.Fatal("making a spec with the hook: ", err)
	}
	n.write(t, "spec.json", string(spec))
}

// agentSocket is where the node's agent listens.
func (n *node) agentSocket() string { return n.path("api.sock") }

func (n *node) nriSocket() string { return n.path("nri.sock") }

// program is the path of one of containerd's programs.
func (n *node) program(t *testing.T, name string) string {
	t.Helper()
	if dir := n.release.dir(t); dir != "" {
		return filepath.Join(dir, name)
	}
	path, err := testutil.LookPath(name)
	if err != nil {
		testutil.Unsupported(t, "containerd", err.Error())
	}
	return path
}

// start starts containerd, again after kill: pods that ran go on.
func (n *node) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(n.path("containerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	program := n.program(t, "containerd")
	cmd := exec.Command(program, "--config", n.path("config.toml"), "--log-level", "warn")
	cmd.Env = []string{"PATH=" + n.path("bin") + ":" + filepath.Dir(program) + ":" + testutil.SystemPath()}
	cmd.Stdout, cmd.Stderr = log, log
	n.daemon, err = testutil.StartDaemon(testutil.DaemonSpec{Cmd: cmd, NetNS: n.net.Node, Mounts: n.mounts})
	_ = log.Close() // the daemon has its own
	if err != nil {
		t.Fatal("starting containerd: ", err)
	}
	if n.conn != nil {
		_ = n.conn.Close() // of the daemon before
	}
	n.conn, err = grpc.NewClient("unix:"+n.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	n.cri = cri.NewRuntimeServiceClient(n.conn)
	testutil.Eventually(t, "containerd's CRI answers", func() error {
		if n.daemon.Ended() {
			t.Fatalf("containerd ended:\n%s", n.log())
		}
		status, err := n.cri.Status(context.Background(), &cri.StatusRequest{}) // the node's end starts it too
		if err != nil {
			return err
		}
		for _, c := range status.GetStatus().GetConditions() {
			if !c.GetStatus() && strings.HasSuffix(c.GetType(), "Ready") { // others are advice
				return fmt.Errorf("%s: %s", c.GetType(), c.GetMessage())
			}
		}
		return nil
	})
}

// kill ends containerd with SIGKILL. Pods and their shims go on.
func (n *node) kill(t *testing.T) {
	t.Helper()
	if err := n.daemon.Stop(syscall.SIGKILL); err != nil {
		t.Fatal("killing containerd: ", err)
	}
}

// log is the end of what containerd wrote.
func (n *node) log() string {
	text, err := os.ReadFile(n.path("containerd.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8192):])
}

// ctr runs containerd's own client in the CRI's namespace.
func (n *node) ctr(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(n.program(t, "ctr"), append([]string{"--address", n.socket(), "--namespace", "k8s.io"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// image makes an image and waits until the CRI knows it.
func (n *node) image(t *testing.T, spec testutil.ImageSpec) {
	t.Helper()
	archive, err := os.Create(n.path("image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := testutil.WriteImage(t, archive, spec); err != nil {
		t.Fatal("writing the image: ", err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	n.load(t, archive.Name(), spec.Ref)
}

// load imports the archive of an image and waits until the CRI knows it.
func (n *node) load(t *testing.T, archive, ref string) {
	t.Helper()
	args := []string{"images", "import", "--no-unpack", archive}
	if n.release.nri {
		args = []string{"images", "import", "--local", "--no-unpack", archive}
	}
	n.ctr(t, args...)
	images := cri.NewImageServiceClient(n.conn)
	testutil.Eventually(t, "the CRI knows "+ref, func() error {
		answer, err := images.ImageStatus(t.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: ref}})
		if err == nil && answer.GetImage() == nil {
			err = fmt.Errorf("no image")
		}
		return err
	})
}

func (n *node) close(t *testing.T) {
	t.Helper()
	if n.daemon != nil {
		if n.daemon.Ended() {
			n.start(t) // its pods cannot be removed without it
		}
		n.removeAll(t)
		if err := n.daemon.Stop(syscall.SIGTERM); err != nil {
			t.Errorf("stopping containerd: %v", err)
		}
		_ = n.conn.Close() // of the daemon that is gone
	}
	testutil.RemoveCgroups(t, n.name)
	if t.Failed() {
		t.Logf("containerd wrote:\n%s", n.log())
	}
	for _, at := range n.unmount {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", at, err)
		}
	}
	if err := os.RemoveAll(n.dir); err != nil {
		t.Errorf("removing the node's files: %v", err)
	}
}
