package read

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// client is a program that people use, and how it makes a request; %METHOD, %PATH and %HOST are filled in.
type client struct {
	name string
	args []string
}

const (
	pythonClient = `
import http.client
c = http.client.HTTPConnection("%HOST", timeout=20)
c.request("%METHOD", "%PATH")
r = c.getresponse()
print(r.status, r.read().decode())`
	pythonAsync = `
import asyncio
async def main():
    host, port = "%HOST".split(":")
    r, w = await asyncio.open_connection(host, int(port))
    w.write(b"%METHOD %PATH HTTP/1.1\r\nHost: %HOST\r\nConnection: close\r\n\r\n")
    print((await asyncio.wait_for(r.read(), 20)).decode())
asyncio.run(main())`
	nodeClient = `
const r = require("http").request("http://%HOST%PATH", {method: "%METHOD", timeout: 20000}, a => {
  let text = ""; a.on("data", d => text += d); a.on("end", () => console.log(a.statusCode, text))});
r.on("error", e => console.log(e.code)); r.end()`
)

// clients are the programs; Debian's nodejs is /usr/bin/node.
func clients() []client {
	return []client{
		{"curl", []string{"/usr/bin/curl", "-sS", "-i", "--max-time", "20", "-X%METHOD", "http://%HOST%PATH"}},
		{"wget", []string{"/usr/bin/wget", "-S", "-T", "20", "-t", "1", "-O", "-", "--content-on-error", "--method=%METHOD", "http://%HOST%PATH"}},
		{"Python http.client", []string{"/usr/bin/python3", "-c", pythonClient}},
		{"Python asyncio", []string{"/usr/bin/python3", "-c", pythonAsync}},
		{"Node", []string{"/usr/bin/node", "-e", nodeClient}},
	}
}

// TestClients: what programs make of plain requests. Those that are allowed are answered by the server, those that are not by
// the gate, with 403, and the server never sees them.
func TestClients(t *testing.T) {
	if testutil.InVM() {
		t.Skip("the guest has no interpreters; its kernels have curl for a client")
	}
	s := newScene(t, "Enforce")
	host := strings.TrimPrefix(at(s.ServerAddr), "http://")
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			if _, err := os.Stat(c.args[0]); err != nil {
				testutil.Unsupported(t, "client-"+filepath.Base(c.args[0]), err.Error())
			}
			s.events.Reset()
			ask := func(method, path string) string {
				fill := strings.NewReplacer("%METHOD", method, "%PATH", path, "%HOST", host)
				var args []string
				for _, arg := range c.args {
					args = append(args, fill.Replace(arg))
				}
				p := s.pod.Command(args...)
				return p.Run(t) + p.Complaint()
			}
			got, seen := ask("POST", "/v1/request-landing"), s.requests()
			if !strings.Contains(got, "200") || !strings.Contains(got, "Ship landed") || seen != "POST /v1/request-landing" {
				t.Errorf("an allowed request gets %q, and the server has seen %q", got, seen)
			}
			got, seen = ask("PUT", "/v1/exhaust-port"), s.requests()
			if !strings.Contains(got, "403") || !strings.Contains(got, denied) || seen != "" {
				t.Errorf("a denied request gets %q, and the server has seen %q", got, seen)
			}
			e := s.await(t, func(e event.Event) bool { return e.Verdict == event.VerdictDeny })
			if e.Method != http.MethodPut || e.Path != "/v1/exhaust-port" || e.Host != host || e.Reason != event.ReasonRule {
				t.Errorf("the denial is told as %+v", e)
			}
		})
	}
}
