package node

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/tests/node/kubernetes"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/program"
)

// agentImage is the image that the chart is told to run.
const agentImage = "test.local/sallyport:1"

// helm runs it, as contrib/tools/helm pins it.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"tool", "-modfile=../../contrib/tools/helm/go.mod", "helm"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// chart is the manifests that the chart makes for this node, with more values.
func (c *cluster) chart(t *testing.T, more map[string]any) string {
	t.Helper()
	values := map[string]any{
		"image":      map[string]string{"repository": "test.local/sallyport", "tag": "1", "pullPolicy": "Never"},
		"pauseImage": pauseImage,
		"host":       map[string]string{"bpffs": c.path("bpf"), "containerd": c.dir, "nri": c.dir, "run": c.path("sallyport")},
		"policies":   map[string]string{"web.yaml": c.webPolicy()},
	}
	maps.Copy(values, more)
	text, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "values.json", string(text))
	return helm(t, "template", "sallyport", "../../contrib/helm/sallyport", "--namespace", "sallyport", "--include-crds",
		"--values", c.path("values.json"))
}

// install applies the chart and waits until the agent enforces.
func (c *cluster) install(t *testing.T, more map[string]any) {
	t.Helper()
	c.Apply(t, c.chart(t, more))
	c.Must(t, "-n", "sallyport", "rollout", "status", "daemonset/sallyport", "--timeout=60s")
}

// TestChart runs the agent as the chart installs it, replaces it under traffic, and takes everything out again.
func TestChart(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		c := newCluster(t, r)
		c.image(t, testutil.ImageSpec{
			Ref: agentImage, Scratch: true, Entrypoint: []string{"/sallyport"}, Command: []string{"run"},
			Files: []testutil.File{{Path: "/sallyport", Source: program.Binary(t)}},
		})
		c.Namespace(t, "sallyport")
		c.install(t, nil)
		// Nobody calls before containers start here on containerd 1.6: what is forbidden waits until the pod is governed.
		c.run(t, manifest{name: "web", main: "until test -e /tmp/go; do sleep 0.1; done; (" + c.knock(forbiddenPort) + " | sed 's/^/forbidden-/') & " +
			c.knock(testutil.EchoPort)})
		shell := append([]string{"exec", "web", "--"}, strings.Fields(c.connect(testutil.EchoPort))...)
		testutil.Eventually(t, "the pod is governed", func() error {
			out, err := c.kubectl(t, shell...)
			return expect(out, err, "EPERM")
		})
		c.Must(t, "-n", "shop", "exec", "web", "--", "touch", "/tmp/go")
		main := func() string { return c.Must(t, "-n", "shop", "logs", "web") }
		more(t, "the main program is allowed", main, "connect-tcp: ok", 3)
		denied := func(when string) {
			t.Helper()
			out, err := c.kubectl(t, shell...)
			if err := expect(out, err, "EPERM"); err != nil {
				t.Errorf("an exec %s: %v", when, err)
			}
		}
		denied("under the chart's agent")
		c.plugin(t)
		c.install(t, map[string]any{"config": map[string]any{"log": map[string]string{"level": "debug"}, "alerts": map[string]any{"jsonl": map[string]string{"path": "-"}}}})
		denied("under its successor")
		more(t, "the main program goes on", main, "connect-tcp: ok", 3)
		onlyOK(t, "the main program, over the roll-out", main(), "ok")
		if n := count(main(), "forbidden-connect-tcp: ") - count(main(), "forbidden-connect-tcp: EPERM"); n > 0 {
			t.Errorf("%d forbidden connections were not denied", n)
		}
		c.forbidden.ExpectNone(t)

		c.install(t, map[string]any{"cleanup": true})
		left, err := os.ReadDir(filepath.Join(c.path("bpf"), "sallyport"))
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the clean-up there is %v: %v", left, err)
		}
		out, err := c.kubectl(t, shell...)
		if err := expect(out, err, "ok"); err != nil {
			t.Error("an exec without Sallyport: ", err)
		}
	})
}

// plugin asks the agent by kubectl's plugin.
func (c *cluster) plugin(t *testing.T) {
	t.Helper()
	if out := c.plugged(t, "status", "--node", kubernetes.NodeName); !strings.Contains(out, "NODE "+kubernetes.NodeName) || !strings.Contains(out, "shop/web") {
		t.Errorf("kubectl sallyport status wrote %q", out)
	}
	if out := c.plugged(t, "observe", "--verdict", "Deny", "--origin", "Exec", "-o", "json"); len(parseEvents(t, out)) == 0 {
		t.Error("kubectl sallyport observe tells no denial")
	}
	if r, err := c.Plugin(t, "../../contrib/kubectl/kubectl-sallyport", "status", "--node", "none"); err != nil || r.Code != 1 {
		t.Errorf("kubectl sallyport about a node that is not there: %v, %+v", err, r)
	}
}

// plugged is what the plugin wrote, which must end well.
func (c *cluster) plugged(t *testing.T, args ...string) string {
	t.Helper()
	r, err := c.Plugin(t, "../../contrib/kubectl/kubectl-sallyport", args...)
	if err != nil || r.Code != 0 {
		t.Fatalf("kubectl sallyport %v: %v, %+v", args, err, r)
	}
	return r.Stdout
}

// TestChartIsSound lints the chart, and compares the plain manifests with what it makes.
func TestChartIsSound(t *testing.T) {
	if out := helm(t, "lint", "--strict", "../../contrib/helm/sallyport"); !strings.Contains(out, "0 chart(s) failed") {
		t.Errorf("helm lint says %s", out)
	}
	rendered := helm(t, "template", "sallyport", "../../contrib/helm/sallyport", "--namespace", "sallyport")
	for _, forbidden := range []string{"privileged: true", "SYS_MODULE", "SYS_RESOURCE", "resources: [secrets", "create"} {
		if strings.Contains(rendered, forbidden) {
			t.Errorf("the manifests have %s", forbidden)
		}
	}
	plain, err := os.ReadFile("../../contrib/manifests/sallyport.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rendered, string(plain)); diff != "" {
		t.Errorf("contrib/manifests is not what the chart makes; run make manifests (-chart +file):\n%s", diff)
	}
}
