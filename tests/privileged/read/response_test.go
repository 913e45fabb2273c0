package read

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
)

// Answers of the server that says what it is asked for: those that are told with a status, and others.
const (
	notFound   = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	old        = "HTTP/1.0 503 \r\nConnection: close\r\n\r\n"
	noReason   = "HTTP/1.1 299\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	goesOn     = "HTTP/1.1 100 Continue\r\n\r\n"
	created    = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	noHTTP     = "220 mail.example ESMTP\r\n"
	noStatus   = "HTTP/1.1 abc\r\n\r\n"
	tooLarge   = "HTTP/1.1 999 \r\n\r\n"
	longStatus = "HTTP/1.1 2000 OK\r\n\r\n"
)

// says is a server that answers a request by what the number in its query stands for in a table, in pieces.
func (s *scene) says(t *testing.T, at netip.AddrPort, table [][]string) {
	t.Helper()
	l := s.Server.Listen(t, at)
	t.Cleanup(func() { _ = l.Close() }) // it ends serving
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answer1(conn, table)
		}
	}()
}

// answer1 answers the one request of a connection; whose body comes between the first and the second piece.
func answer1(conn net.Conn, table [][]string) {
	defer conn.Close() // the client says what it got
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	n, err := strconv.Atoi(r.URL.RawQuery)
	if err != nil {
		return
	}
	for i, piece := range table[n] {
		if i == 1 {
			_, _ = io.Copy(io.Discard, r.Body) // what there is of it
		}
		if _, err := io.WriteString(conn, piece); err != nil {
			return
		}
		time.Sleep(time.Millisecond) // that it is a segment of its own, most times
	}
}

// asked waits for what is told of a request, the n-th since the last Reset, and of its answer.
func (s *scene) asked(t *testing.T, n int) (request, response event.Event) {
	t.Helper()
	testutil.Eventually(t, fmt.Sprintf("request %d and its answer", n), func() error {
		requests := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindRequest && e.Verdict == event.VerdictAllow })
		if len(requests) <= n {
			return fmt.Errorf("told were %+v", requests)
		}
		request = requests[n]
		answers := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindResponse && e.Asked == request.Asked })
		if len(answers) != 1 {
			return fmt.Errorf("of %+v these answers were told: %+v", request, answers)
		}
		response = answers[0]
		return nil
	})
	return request, response
}

// newTelling is a scene that tells what is allowed.
func newTelling(t *testing.T) *scene {
	t.Helper()
	s := newUngatedOf(t, "Enforce", probes.Config{TellConnect: true})
	s.govern(t)
	return s
}

// TestResponses: of a request that is told, the status of its answer is told too, and when that has come; what is no answer,
// or may be another's, is not.
func TestResponses(t *testing.T) {
	s := newTelling(t)
	table := []struct {
		name   string
		says   []string
		args   []string
		status uint16 // 0: nothing is told
	}{
		{"whole", []string{notFound}, nil, 404},
		{"byte by byte", strings.Split(notFound, ""), nil, 404},
		{"HTTP/1.0", []string{old}, nil, 503},
		{"without a reason", []string{noReason}, nil, 299},
		{"behind an interim one", []string{goesOn, created}, []string{"-H", "Expect: 100-continue", "-d", "a body"}, 201},
		{"a line that is cut", []string{notFound[:11], notFound[11:]}, nil, 404},
		{"no HTTP", []string{noHTTP}, nil, 0},
		{"no status", []string{noStatus}, nil, 0},
		{"a status that is none", []string{tooLarge}, nil, 0},
		{"a status that is too long", []string{longStatus}, nil, 0},
		{"nothing", nil, nil, 0},
	}
	answers := [][]string{}
	for _, c := range table {
		answers = append(answers, c.says)
	}
	for _, addr := range []netip.Addr{s.ServerAddr, s.ServerAddr6} {
		to := netip.AddrPortFrom(addr, nginxPort)
		s.says(t, to, answers)
		s.events.Reset()
		for i, c := range table {
			s.curl(t, append(c.args, "-XPOST", fmt.Sprintf("http://%s/v1/request-landing?%d", to, i))...)
		}
		// The end: what was not told before it will not be.
		if text, code := s.curl(t, "-XPOST", at(addr)+"/v1/request-landing", at(addr)+"/v1/request-landing"); code != 0 {
			t.Fatalf("curl ended with %d and %q", code, text)
		}
		for i := range 2 { // on one connection
			request, response := s.asked(t, len(table)+i)
			if response.Status != http.StatusOK || response.Latency <= 0 || response.Latency > time.Minute || response.Step != event.StepGate ||
				response.Call != event.CallPacketOut || response.Remote != request.Remote || response.Local != request.Local ||
				response.Subject != request.Subject {
				t.Errorf("%+v is answered by %+v", request, response)
			}
		}
		requests := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindRequest })
		for i, c := range table {
			told := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindResponse && e.Asked == requests[i].Asked })
			if c.status == 0 && len(told) > 0 || c.status != 0 && (len(told) != 1 || told[0].Status != c.status) {
				t.Errorf("%s at %s is told as %+v", c.name, addr, told)
			}
		}
	}
}

// TestResponsesOfPipelines: who asks twice at once is told no answer, since nobody follows where the first ends.
func TestResponsesOfPipelines(t *testing.T) {
	s := newTelling(t)
	const land = "POST /v1/request-landing?0 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
	to := netip.AddrPortFrom(s.ServerAddr, nginxPort)
	s.says(t, to, [][]string{{notFound}})
	s.hold(t, to.String(), conversation{Name: "two at once", Pieces: []string{land + land}, Back: notFound, Ends: ended})
	s.curl(t, "-XPOST", at(s.ServerAddr)+"/v1/request-landing")
	if _, response := s.asked(t, 2); response.Status != http.StatusOK {
		t.Errorf("the next one is told as %+v", response)
	}
	if told := s.events.Find(func(e event.Event) bool { return e.Kind == event.KindResponse }); len(told) != 1 {
		t.Errorf("told are %+v", told)
	}
}

// TestResponsesOfServers: what a server in the pod answers is told too.
func TestResponsesOfServers(t *testing.T) {
	s := newTelling(t)
	n := newNginx(t, netip.AddrPortFrom(s.PodAddr, inPort), netip.AddrPortFrom(s.PodAddr6, inPort))
	server := s.pod.Command(n.args...)
	server.Start(t)
	t.Cleanup(func() { _ = server.Process.Kill(); server.Result() }) // it never ends by itself
	for _, addr := range []netip.Addr{s.PodAddr, s.PodAddr6} {
		to := netip.AddrPortFrom(addr, inPort)
		awaitServer(t, s.Server, to)
		s.events.Reset()
		cmd := exec.Command("/usr/bin/curl", "-sS", "--max-time", "20", "http://"+to.String()+"/open", "http://"+to.String()+"/open")
		s.Server.Start(t, cmd)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			request, response := s.asked(t, i)
			if request.Path != "/open" || response.Status != http.StatusOK || response.Call != event.CallPacketIn || response.Latency <= 0 {
				t.Errorf("%+v is answered by %+v", request, response)
			}
		}
	}
}
