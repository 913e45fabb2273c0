package kubernetes

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// helm is the path of helm as contrib/tools/helm pins it, which it builds first if it must.
var helm = sync.OnceValues(func() (string, error) {
	root, err := sources()
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "-C", root, "tool", "-n", "-modfile=contrib/tools/helm/go.mod", "helm")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	path, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("building helm: %w\n%s", err, stderr.Bytes())
	}
	return strings.TrimSpace(string(path)), nil
})

func helmPath(t testing.TB) string {
	t.Helper()
	path, err := helm()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Chart is the folder of the project's chart.
func Chart(t testing.TB) string {
	t.Helper()
	root, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "contrib/helm/sallyport")
}

// Helm runs helm away from any cluster, which must end well, and returns what it wrote.
func Helm(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(helmPath(t), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out)
}

// Manifests is what the chart makes in the namespace sallyport, with more flags of helm template.
func Manifests(t testing.TB, flags ...string) string {
	t.Helper()
	return Helm(t, append([]string{"template", "sallyport", Chart(t), "--namespace", "sallyport"}, flags...)...)
}

// Helm runs helm as an administrator of the cluster, which must end well.
func (a *API) Helm(t testing.TB, args ...string) {
	t.Helper()
	r, err := a.command(t, "", append([]string{helmPath(t)}, args...))
	if err != nil || r.Code != 0 {
		t.Fatalf("helm %s: %v: exit code %d: %s", strings.Join(args, " "), err, r.Code, r.Stderr)
	}
}
