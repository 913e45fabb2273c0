package daemon

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// policyNamed is a policy whose only rule has a name, to tell versions apart.
func policyNamed(name, rule string) string {
	return `apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata: {name: ` + name + `, namespace: shop}
spec:
  podSelector: {}
  rules: [{name: ` + rule + `, processes: [{origins: [Exec]}], action: Deny}]
`
}

const broken = "kind: [\n"

// write replaces the files of a directory.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// inForce lists the policies of flatten with the names of their rules.
func inForce(files map[string]policyFile) (out []string) {
	for _, p := range flatten(files) {
		out = append(out, p.Name()+"/"+p.Spec.Rules[0].Name)
	}
	return out
}

func TestPoliciesOverTime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policies")
	var files map[string]policyFile
	for _, step := range []struct {
		what   string
		files  map[string]string
		want   []string
		broken string // names of the files that are
	}{
		{"two files", map[string]string{"a.yaml": policyNamed("a", "a1"), "b.yaml": policyNamed("b", "b1")}, []string{"shop/a/a1", "shop/b/b1"}, ""},
		{"one breaks", map[string]string{"a.yaml": broken, "b.yaml": policyNamed("b", "b2")}, []string{"shop/b/b2", "shop/a/a1"}, "a.yaml"},
		{"it stays broken", map[string]string{"a.yaml": broken + "\n", "b.yaml": policyNamed("b", "b3")}, []string{"shop/b/b3", "shop/a/a1"}, "a.yaml"},
		{"its policy moves", map[string]string{"a.yaml": broken, "b.yaml": policyNamed("a", "a2")}, []string{"shop/a/a2"}, "a.yaml"},
		{"it is mended, and is the first", map[string]string{"a.yaml": policyNamed("a", "a3"), "b.yaml": policyNamed("a", "a2")}, []string{"shop/a/a3"}, "b.yaml"},
		{"both break", map[string]string{"a.yaml": broken, "b.yaml": broken}, []string{"shop/a/a3"}, "a.yaml b.yaml"},
		{"one goes", map[string]string{"b.yaml": broken}, []string{"shop/a/a2"}, "b.yaml"},
		{"all go", map[string]string{}, nil, ""},
	} {
		write(t, dir, step.files)
		var err error
		if files, err = readPolicies(dir, files); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if diff := cmp.Diff(step.want, inForce(files)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.what, diff)
		}
		var bad []string
		for _, name := range []string{"a.yaml", "b.yaml"} {
			if files[name].err != nil {
				bad = append(bad, name)
			}
		}
		if got := strings.Join(bad, " "); got != step.broken {
			t.Errorf("%s: broken are %q, want %q", step.what, got, step.broken)
		}
	}
	write(t, dir, map[string]string{"a.yaml": policyNamed("a", "a4")})
	files, err := readPolicies(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	kept, err := readPolicies(dir, files)
	if err == nil || cmp.Diff([]string{"shop/a/a4"}, inForce(kept)) != "" {
		t.Errorf("without the directory: %v, error %v", inForce(kept), err)
	}
}

func TestMissingPoliciesHoldAdoptedTables(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policies")
	for what, test := range map[string]struct {
		before, now map[string]string
		missing     bool
	}{
		"nothing":               {now: map[string]string{}},
		"good":                  {now: map[string]string{"a.yaml": policyNamed("a", "a1")}},
		"broken from the start": {now: map[string]string{"a.yaml": broken, "b.yaml": policyNamed("b", "b1")}, missing: true},
		"broken later":          {before: map[string]string{"a.yaml": policyNamed("a", "a1")}, now: map[string]string{"a.yaml": broken}},
	} {
		e := &engine{}
		for _, files := range []map[string]string{test.before, test.now} {
			write(t, dir, files)
			var err error
			if e.files, err = readPolicies(dir, e.files); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.missing(); (err != nil) != test.missing {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWatchPolicies(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "policies")
	changes := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watchPolicies(ctx, dir, func() { changes <- struct{}{} }, quiet()) }()
	await := func(what string) {
		t.Helper()
		select {
		case <-changes:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s was not told", what)
		}
		for { // what comes late is of the same change
			select {
			case <-changes:
			case <-time.After(3 * settle):
				return
			}
		}
	}
	for _, round := range []string{"first", "second"} { // it is not there, comes, and goes
		write(t, dir, nil)
		await(round + " directory")
		if err := os.WriteFile(filepath.Join(dir, "a.yaml"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		await(round + " file")
		if err := os.Rename(filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")); err != nil {
			t.Fatal(err)
		}
		await(round + " renaming")
		if err := os.Rename(dir, filepath.Join(t.TempDir(), "gone")); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// The compiler knows policies by their address: what was read again and has not changed must be the same.
func TestUnchangedPoliciesStayTheSame(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policies")
	write(t, dir, map[string]string{"a.yaml": policyNamed("a", "one"), "b.yaml": policyNamed("b", "one")})
	before, err := readPolicies(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{"a.yaml": policyNamed("a", "one"), "b.yaml": policyNamed("b", "two")})
	now, err := readPolicies(dir, before)
	if err != nil {
		t.Fatal(err)
	}
	if now["a.yaml"].policies[0] != before["a.yaml"].policies[0] {
		t.Error("a policy that has not changed is another")
	}
	if now["b.yaml"].policies[0] == before["b.yaml"].policies[0] {
		t.Error("a policy that has changed is the same")
	}
}
