package nri

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/runtime/identity"
)

// TestMain holds that no test leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func testConfig(socket string) Config {
	return Config{
		Socket: socket, Timeout: time.Second, Sole: true,
		Start: func(context.Context, identity.Container) error { return nil },
		Late:  func(identity.Container, error, bool) {},
	}
}

// TestBrokenRuntimes connects to what is no runtime: it closes at once, says nothing, or talks nonsense. The plugin goes
// on trying, and ends when asked to, with everything it started.
func TestBrokenRuntimes(t *testing.T) {
	for name, behave := range map[string]func(net.Conn){
		"closes":   func(net.Conn) {},
		"silent":   func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"nonsense": func(c net.Conn) { _, _ = c.Write(make([]byte, 4096)) },
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			listener, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			accepted := make(chan struct{}, 100)
			served := make(chan struct{})
			go func() {
				defer close(served)
				for {
					c, err := listener.Accept()
					if err != nil {
						return
					}
					accepted <- struct{}{}
					if name == "silent" {
						go behave(c) // until the plugin closes it
						continue
					}
					behave(c)
					_ = c.Close()
				}
			}()
			p, err := New(testConfig(socket), quiet())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- p.Run(ctx, make(chan identity.Change)) }()
			<-accepted
			if name != "silent" {
				<-accepted // again
			}
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the plugin does not end")
			}
			if s := p.Status(); s.Connected {
				t.Error("status says connected")
			}
			_ = listener.Close()
			<-served
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"relative socket": func(c *Config) { c.Socket = "nri.sock" },
		"no timeout":      func(c *Config) { c.Timeout = 0 },
		"nobody governs":  func(c *Config) { c.Start = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := testConfig("/s")
			change(&c)
			if _, err := New(c, quiet()); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}

// TestLateChoice lets nobody govern a container in time.
func TestLateChoice(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{false, true} {
		var told []bool
		cfg := testConfig("/s")
		cfg.Refuse = refuse
		cfg.Start = func(ctx context.Context, _ identity.Container) error {
			<-ctx.Done()
			return ctx.Err()
		}
		cfg.Late = func(c identity.Container, err error, refused bool) {
			if c.ID != "id" || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("told of %q, %v", c.ID, err)
			}
			told = append(told, refused)
		}
		p, err := New(cfg, quiet())
		if err != nil {
			t.Fatal(err)
		}
		h := &handler{Plugin: p, ctx: t.Context(), known: map[string]identity.Container{}}
		ctx, leave := h.enter(t.Context(), 10*time.Millisecond)
		err = h.start(ctx, identity.Container{ID: "id"}, nil)
		leave()
		if (err != nil) != refuse || len(told) != 1 || told[0] != refuse {
			t.Errorf("refuse %t: error %v, told %v", refuse, err, told)
		}
		if s := p.Status(); s.Refused+s.Admitted != 1 || (s.Refused == 1) != refuse {
			t.Errorf("status counts %+v", s)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	p, err := New(testConfig("/s"), quiet())
	if err != nil {
		t.Fatal(err)
	}
	h := &handler{Plugin: p, ctx: t.Context(), runtime: "containerd"}
	pod := &api.PodSandbox{
		Id: "pause", Name: "web-1", Namespace: "shop", Uid: "u1",
		Labels:      map[string]string{"app": "web", identity.LabelPod: "web-1", "io.cri-containerd.kind": "sandbox"},
		Annotations: map[string]string{identity.AnnotationProbes + "web": `[["cat","/x"]]`, identity.AnnotationProbes + "bad": `{`},
	}
	got := h.describe(pod, &api.Container{
		Id: "c1", Name: "web", Labels: map[string]string{"app": "of-the-image"}, CreatedAt: 5,
		Annotations: map[string]string{imageOfCRI: "img:1"},
	})
	want := identity.Container{
		ID: "c1", Runtime: "containerd", Namespace: "k8s.io", Name: "web", Type: identity.TypeApp, Image: "img:1",
		Labels: map[string]string{"app": "web"}, Pod: identity.Pod{Namespace: "shop", Name: "web-1", UID: "u1"},
		Probes: [][]string{{"cat", "/x"}}, CreatedAt: time.Unix(0, 5),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("described (-want +got):\n%s", diff)
	}
	if bad := h.describe(pod, &api.Container{Id: "c2", Name: "bad"}); bad.Probes != nil {
		t.Errorf("a broken annotation gave the probes %q", bad.Probes)
	}
}
