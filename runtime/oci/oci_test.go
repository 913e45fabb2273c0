package oci

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/runtime/identity"
)

func TestParseState(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, text, problem string }{
		{"runc's", `{"ociVersion":"1.0.2-dev","id":"c1","status":"creating","pid":42,"bundle":"/run/c1","annotations":{"a":"b"}}`, ""},
		{"empty", "", "standard input is empty"},
		{"no JSON", "garbage", "invalid character"},
		{"another type", `{"id":7}`, "cannot unmarshal"},
		{"no id", `{"pid":42,"bundle":"/b"}`, "an id of 0 bytes"},
		{"a long id", `{"id":"` + strings.Repeat("x", 2000) + `","pid":42,"bundle":"/b"}`, "an id of 2000 bytes"},
		{"no process", `{"id":"c1","bundle":"/b"}`, "createRuntime"},
		{"a negative pid", `{"id":"c1","pid":-1,"bundle":"/b"}`, "pid -1"},
		{"a relative bundle", `{"id":"c1","pid":42,"bundle":"../b"}`, "no absolute path"},
		{"too much", `{"id":"` + strings.Repeat("x", maxState), "more than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s, err := ParseState(strings.NewReader(tc.text))
			if tc.problem == "" {
				if err != nil || s.ID != "c1" || s.Pid != 42 || s.Bundle != "/run/c1" {
					t.Errorf("got %+v, %v", s, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.problem) {
				t.Errorf("got %v, want %q", err, tc.problem)
			}
		})
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"id":"c1","pid":42,"bundle":"/run/c1"}`))
	f.Add([]byte(`{"id":"c1","pid":1e3,"bundle":"/"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseState(strings.NewReader(string(text)))
		if err == nil && (s.ID == "" || s.Pid <= 0 || !filepath.IsAbs(s.Bundle)) {
			t.Errorf("accepted %+v", s)
		}
	})
}

func TestReadSpec(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := ReadSpec(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a bundle without a spec: %v", err)
	}
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"linux":{"cgroupsPath":"/a/b"},"annotations":{"k":"v"}}`)
	spec, err := ReadSpec(dir)
	if err != nil || spec.Linux.CgroupsPath != "/a/b" || spec.Annotations["k"] != "v" {
		t.Errorf("got %+v, %v", spec, err)
	}
	write(`[`)
	if _, err := ReadSpec(dir); err == nil {
		t.Error("a broken spec was accepted")
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		annotations map[string]string
		want        identity.Container
	}{
		{"no pod", map[string]string{identity.AnnotationProbes + "c1": `[["x"]]`, "io.kubernetes.pod.name": "forged"}, identity.Container{
			ID: "c1", Name: "c1", Type: identity.TypeApp, Labels: map[string]string{}, Pod: identity.Pod{Name: "c1"},
		}},
		{"containerd", map[string]string{
			"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-namespace": "shop",
			"io.kubernetes.cri.sandbox-name": "web", "io.kubernetes.cri.sandbox-uid": "u", "io.kubernetes.cri.container-name": "app",
		}, identity.Container{
			ID: "c1", Runtime: "containerd", Name: "app", Type: identity.TypeApp, Labels: map[string]string{},
			Pod: identity.Pod{Namespace: "shop", Name: "web", UID: "u"},
		}},
		{"CRI-O's sandbox", map[string]string{
			"io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.Namespace": "shop", "io.kubernetes.cri-o.KubeName": "web",
			"io.kubernetes.pod.uid": "u", "io.kubernetes.container.name": "POD", "io.kubernetes.cri-o.Labels": `{"app":"web","io.kubernetes.pod.name":"web"}`,
		}, identity.Container{
			ID: "c1", Runtime: "cri-o", Name: "c1", Type: identity.TypeSandbox, Labels: map[string]string{"app": "web"},
			Pod: identity.Pod{Namespace: "shop", Name: "web", UID: "u"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, Describe("c1", tc.annotations)); diff != "" {
				t.Errorf("described (-want +got):\n%s", diff)
			}
		})
	}
}
