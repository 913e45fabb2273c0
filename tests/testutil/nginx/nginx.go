// Package nginx starts nginx, as Debian has it, with a test's own configuration.
package nginx

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// path is where Debian has it.
const path = "/usr/sbin/nginx"

// config is what every test wants: one process, all files in a folder. Its arguments: that folder, and the servers.
const config = `
daemon off;
master_process off;
user root root;
pid %[1]s/pid;
error_log %[1]s/errors;
events {}
http {
	log_format requests "$request_method $request_uri $connection_requests";
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	%[2]s
}
`

// Command is the command line of an nginx whose files are in dir. servers is what stands in its block http.
func Command(t testing.TB, dir, servers string) []string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal("nginx is needed: ", err)
	}
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, fmt.Appendf(nil, config, dir, servers), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{path, "-e", filepath.Join(dir, "errors"), "-p", dir, "-c", file}
}

// Start starts one in a network namespace, until the end of the test, and waits until it listens.
func Start(t testing.TB, in *testutil.NetNS, servers string, listens netip.AddrPort) *os.Process {
	t.Helper()
	args := Command(t, t.TempDir(), servers)
	cmd := exec.Command(args[0], args[1:]...)
	in.Start(t, cmd)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it never ends by itself
	testutil.Eventually(t, "nginx", func() error {
		return in.Try(func() error {
			conn, err := net.Dial("tcp", listens.String())
			if err == nil {
				err = conn.Close()
			}
			return err
		})
	})
	return cmd.Process
}
