package kubernetes

import (
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
	path, err := output("building helm", exec.Command("go", "-C", root, "tool", "-n", "-modfile=contrib/tools/helm/go.mod", "helm"))
	return strings.TrimSpace(path), err
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
	out, err := output("helm "+strings.Join(args, " "), exec.Command(helmPath(t), args...))
	if err != nil {
		t.Fatal(err)
	}
	return out
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
