package tls

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/read"
	"github.com/sallyport/sallyport/tests/testutil"
)

// tlsClient is a program that people use, and how it asks for a path; %PATH, %URL, %HOST (with the port) and %DIR, a folder that is
// not there, are filled in.
type tlsClient struct {
	name    string
	version string // of HTTP
	exe     string // what asks, as its label says: the end of its path
	args    []string
	typed   bool // it sends what it reads, which is to be the request
	git     bool // it asks for a repository: for more than one path
	grpc    bool // it calls a method
}

// Where programs are; tests/vm/clients.sh puts them there in guests.
const (
	python = "/usr/bin/python3"
	node   = "/usr/bin/node"
)

const (
	pythonClient = `
import http.client, ssl
c = http.client.HTTPSConnection("%HOST", timeout=60, context=ssl._create_unverified_context())
c.request("GET", "%PATH")
print(c.getresponse().read().decode())`
	pythonAsync = `
import asyncio, ssl
async def main():
    host, port = "%HOST".split(":")
    r, w = await asyncio.open_connection(host, int(port), ssl=ssl._create_unverified_context())
    w.write(b"GET %PATH HTTP/1.1\r\nHost: %HOST\r\nConnection: close\r\n\r\n")
    print((await asyncio.wait_for(r.read(), 60)).decode())
asyncio.run(main())`
	nodeClient = `
const r = require("https").request("%URL", {rejectUnauthorized: false, timeout: 60000}, a => {
  let text = ""; a.on("data", d => text += d); a.on("end", () => console.log(text))});
r.on("error", e => console.log(e.code)); r.end()`
	nodeHTTP2 = `
const c = require("http2").connect("https://%HOST", {rejectUnauthorized: false});
const fail = e => { console.log(e.code); process.exit(1) };
c.on("error", fail);
const r = c.request({":path": "%PATH"}); let text = "";
r.on("error", fail); r.on("data", d => text += d);
r.on("end", () => { console.log(text); process.exit(0) }); r.end()`
)

// tlsClients are the programs. Those in Go are this test's own, which is static and, as go test runs it, stripped.
func tlsClients() []tlsClient {
	const curl, git = "/usr/bin/curl", "/usr/bin/git"
	return []tlsClient{
		{name: "curl, OpenSSL", version: overHTTP1, exe: "/curl", args: []string{curl, "-sk", "--http1.1", "--max-time", "60", "%URL"}},
		{name: "curl, OpenSSL", version: overHTTP2, exe: "/curl", args: []string{curl, "-sk", "--http2", "--max-time", "60", "%URL"}},
		{name: "git, curl's library with GnuTLS", version: overHTTP1, exe: "/git-remote-https", git: true, args: []string{git, "-c", "http.sslVerify=false", "-c", "http.version=HTTP/1.1", "clone", "%URL", "%DIR"}},
		{name: "git, curl's library with GnuTLS", version: overHTTP2, exe: "/git-remote-https", git: true, args: []string{git, "-c", "http.sslVerify=false", "-c", "http.version=HTTP/2", "clone", "%URL", "%DIR"}},
		{name: "wget, GnuTLS", version: overHTTP1, exe: "/wget", args: []string{"/usr/bin/wget", "-q", "-T", "60", "-t", "1", "--no-check-certificate", "-O", "-", "%URL"}},
		{name: "Python http.client", version: overHTTP1, exe: "/python3", args: []string{python, "-c", pythonClient}},
		{name: "Python asyncio", version: overHTTP1, exe: "/python3", args: []string{python, "-c", pythonAsync}},
		{name: "Node", version: overHTTP1, exe: "/node", args: []string{node, "-e", nodeClient}},
		{name: "Node", version: overHTTP2, exe: "/node", args: []string{node, "-e", nodeHTTP2}},
		{name: "Go", version: overHTTP1, exe: ".test", args: []string{ownProgram, askArg, overHTTP1, "1", "%URL"}},
		{name: "Go", version: overHTTP2, exe: ".test", args: []string{ownProgram, askArg, overHTTP2, "1", "%URL"}},
		{name: "grpc-go", version: overHTTP2, exe: ".test", grpc: true, args: []string{ownProgram, callArg, "%HOST", "%PATH"}},
		{name: "openssl s_client", version: overHTTP1, exe: "/openssl", typed: true, args: []string{"/usr/bin/openssl", "s_client", "-quiet", "-connect", "%HOST"}},
		{name: "gnutls-cli", version: overHTTP1, exe: "/gnutls-cli", typed: true, args: []string{"/usr/bin/gnutls-cli", "--insecure", "--no-ca-verification", "%HOST"}},
	}
}

// TestClients: what programs make of requests over TLS, with servers in turn. Those that are allowed are answered, those
// that are not never get to the server, and both are told with what was asked.
func TestClients(t *testing.T) {
	onOneStep(t, func(t *testing.T, step event.Step) {
		s := newSceneOf(t, step, probes.Config{TellConnect: true})
		s.coverClients(t)
		s.swap(t, "Enforce", asked)
		sites, turn := s.sites(t), 0
		rpc := s.grpcSite(t)
		for _, c := range tlsClients() {
			at := rpc
			for turn++; !c.grpc && at.name == rpc.name; turn++ {
				if next := sites[turn%len(sites)]; next.speaks(c) {
					at = next
				}
			}
			t.Run(fmt.Sprintf("%s, %s, of %s", c.name, c.version, at.name), func(t *testing.T) { s.client(t, c, at) })
		}
	})
}

// coverClients taps what the programs use: libraries where they lie, this program, and Node, which has its library inside.
func (s *scene) coverClients(t *testing.T) {
	t.Helper()
	self := uint32(os.Getpid())
	if err := errors.Join(s.taps.CoverLibraries(s.box.ID, self), s.taps.Cover(s.box.ID, self)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(node); err != nil {
		return
	}
	early := s.start(t, node, "-e", "setInterval(() => {}, 1000)")
	testutil.Eventually(t, "the library in Node", func() error {
		if err := s.taps.Cover(s.box.ID, uint32(early.Process.Process.Pid)); err != nil {
			return err
		}
		if files := s.taps.Files(s.box.ID); !slices.ContainsFunc(files, func(f read.File) bool { return f.Path == node && f.Library == read.OpenSSL }) {
			return fmt.Errorf("tapped are %+v", files)
		}
		return nil
	})
}

// client asks for one thing that is allowed, and one that is not.
func (s *scene) client(t *testing.T, c tlsClient, at site) {
	t.Helper()
	if _, err := os.Stat(c.args[0]); err != nil {
		testutil.Unsupported(t, "client-"+filepath.Base(c.args[0]), err.Error())
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(c.name+c.version))
	for path, verdict := range map[string]event.Verdict{"/allowed/" + name: event.VerdictAllow, "/denied/" + name: event.VerdictDeny} {
		said, welcome := s.fetches(t, c, at, path)
		asks := path
		if c.git {
			asks += "/info/refs"
		}
		if passes := verdict == event.VerdictAllow; welcome != passes || at.saw(asks) != passes {
			t.Errorf("%s: the client says %q (%v), the server has seen it: %v", path, said, welcome, at.saw(asks))
		}
		e := s.events.Wait(t, "what is told of "+asks, func(e event.Event) bool { return e.Path == asks })
		method := http.MethodGet
		if c.grpc {
			method = http.MethodPost
		}
		if e.Kind != event.KindRequest || e.Step != event.StepTap || e.Verdict != verdict || e.Reason != event.ReasonRule || e.Rule == 0 ||
			e.Method != method || e.Host != at.addr.String() || e.Remote != at.addr || !strings.HasSuffix(e.Subject.Exe, c.exe) {
			t.Errorf("%s is told as %+v", asks, e)
		}
		if verdict == event.VerdictAllow {
			s.answered(t, e)
		}
	}
}

// answered waits for what is told of the answer to a request.
func (s *scene) answered(t *testing.T, request event.Event) {
	t.Helper()
	e := s.events.Wait(t, "the answer to "+request.Path, func(e event.Event) bool { return e.Kind == event.KindResponse && e.Asked == request.Asked })
	if e.Status != http.StatusOK || e.Latency <= 0 || e.Step != event.StepTap || e.Remote != request.Remote || e.Local != request.Local ||
		e.Subject.PID != request.Subject.PID {
		t.Errorf("it is told as %+v", e)
	}
}

// fetches lets a program ask for a path. It returns what it printed, and whether it was welcome.
func (s *scene) fetches(t *testing.T, c tlsClient, at site, path string) (said string, welcome bool) {
	t.Helper()
	fill := strings.NewReplacer("%URL", "https://"+at.addr.String()+path, "%PATH", path, "%HOST", at.addr.String(), "%DIR", filepath.Join(t.TempDir(), "clone"))
	args := []string{}
	for _, arg := range c.args {
		args = append(args, fill.Replace(arg))
	}
	p := s.box.Command(args...)
	switch {
	case c.typed:
		typing := s.start(t, args...)
		typing.say(t, "GET "+path+" HTTP/1.1\r\nHost: "+at.addr.String()+"\r\nConnection: close\r\n\r\n")
		s.events.Wait(t, "what is told of "+path, func(e event.Event) bool { return e.Path == path })
		if strings.HasPrefix(path, "/denied") {
			_ = typing.in.Close() // it may have ended
		}
		typing.ended(t)
		p = typing.Process
		said = p.Result()
	case c.grpc && strings.HasPrefix(path, "/denied"):
		waiting := s.start(t, args...) // for an answer on the connection that it may not write to, as long as a call may take
		s.events.Wait(t, "what is told of "+path, func(e event.Event) bool { return e.Path == path })
		_ = waiting.Process.Process.Kill() // it may have given up
		<-waiting.end
		p = waiting.Process
		said = p.Result()
	default:
		said = p.Run(t)
	}
	if c.git {
		return said + p.Complaint(), p.ProcessState.ExitCode() == 0
	}
	return said + p.Complaint(), strings.Contains(said, "welcome")
}
