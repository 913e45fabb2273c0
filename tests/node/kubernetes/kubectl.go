package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/tests/testutil"
)

// kubectlTime bounds one call.
const kubectlTime = 2 * time.Minute

// Kubectl runs kubectl as an administrator, with input, and returns what it wrote. How it ended is its exit code: an
// error is only that it could not run. It may be called at once from several goroutines.
func (a *API) Kubectl(t testing.TB, input string, args ...string) (testutil.ExecResult, error) {
	t.Helper()
	return a.command(t, input, append([]string{Program(t, "kubectl")}, args...))
}

// Terminal runs a line of kubectl's arguments, as a shell reads them, on a terminal that script (util-linux) makes.
func (a *API) Terminal(t testing.TB, line string) (testutil.ExecResult, error) {
	t.Helper()
	return a.command(t, "", []string{"script", "--quiet", "--return", "--command", Program(t, "kubectl") + " " + line, "/dev/null"})
}

// Plugin runs a plugin of kubectl by the path of its file.
func (a *API) Plugin(t testing.TB, file string, args ...string) (testutil.ExecResult, error) {
	t.Helper()
	return a.command(t, "", append([]string{file}, args...))
}

// command runs a program as an administrator, in the server's network namespace.
func (a *API) command(t testing.TB, input string, args []string) (testutil.ExecResult, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), kubectlTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = []string{"KUBECONFIG=" + a.admin, "PATH=" + filepath.Dir(Program(t, "kubectl")) + ":" + testutil.SystemPath(), "HOME=" + a.dir}
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := cmd.Start
	if a.options.Net != nil {
		start = func() error { return a.options.Net.Try(cmd.Start) }
	}
	err := start()
	if err == nil {
		err = cmd.Wait()
	}
	if _, ended := errors.AsType[*exec.ExitError](err); ended && ctx.Err() == nil {
		err = nil
	}
	return testutil.ExecResult{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}, err
}

// Must runs kubectl, which must end well, and returns its output.
func (a *API) Must(t testing.TB, args ...string) string {
	t.Helper()
	return a.must(t, "", args)
}

// Apply applies manifests.
func (a *API) Apply(t testing.TB, manifests string) {
	t.Helper()
	a.must(t, manifests, []string{"apply", "-f", "-"})
}

func (a *API) must(t testing.TB, input string, args []string) string {
	t.Helper()
	r, err := a.Kubectl(t, input, args...)
	if err != nil || r.Code != 0 {
		t.Fatalf("kubectl %s: %v: exit code %d: %s", strings.Join(args, " "), err, r.Code, r.Stderr)
	}
	return r.Stdout
}
