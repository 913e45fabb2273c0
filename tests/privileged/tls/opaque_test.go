package tls

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
)

// insideArg makes the test binary a client with a TLS library that has no tap yet: crypto/tls, linked in.
const insideArg = "sallyport-get"

// ulpArg BY makes it one that asks the kernel to encrypt on a socket, by a call or by a ring, and prints what it says.
const ulpArg = "sallyport-ulp"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == ulpArg {
		fmt.Print(askKernelTLS(os.Args[2]))
		return
	}
	if run := client(os.Args[1:]); run != nil {
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	inventory.Main(m, attached.Free)
}

// client is the client that arguments make of this program, nil if they make it none.
func client(args []string) func() error {
	switch {
	case len(args) == 2 && args[0] == insideArg:
		return func() error { return get(args[1]) }
	case len(args) == 2 && args[0] == talkArg:
		return func() error { return talk(args[1]) }
	case len(args) == 3 && args[0] == callArg:
		return func() error { return call(args[1], args[2]) }
	case len(args) == 2 && args[0] == ktlsArg:
		return func() error { return ktls(args[1]) }
	case len(args) > 3 && args[0] == askArg:
		return func() error { return ask(args[1], args[2], args[3:]) }
	default:
		return nil
	}
}

// patience is how long the client waits: nobody tells it that its bytes do not pass.
const patience = 4 * time.Second

// get asks for a URL and prints the answer.
func get(url string) error {
	client := http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(os.Stdout, answer.Body)
	return err
}

// TestTLSWithoutTap: what nobody reads is denied as opaque where requests are asked about, told and let pass under Audit,
// and no matter where they are not.
func TestTLSWithoutTap(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	attached.OnEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		s := newScene(t, step)
		try := func(path string) string {
			t.Helper()
			return s.box.Command(self, insideArg, "https://"+s.server.String()+path).Run(t)
		}
		opaque := func(verdict event.Verdict) {
			t.Helper()
			e := s.events.Wait(t, "an opaque connection", func(e event.Event) bool { return e.Flaw == event.FlawTLS && e.Verdict == verdict })
			if e.Kind != event.KindRequest || e.Reason != event.ReasonOpaque || e.Rule == 0 || e.Remote != s.server {
				t.Errorf("it is told as %+v", e)
			}
		}
		s.swap(t, "Enforce", asked)
		if said := try("/allowed/opaque"); said == "welcome" || s.has("/allowed/opaque") {
			t.Errorf("what nobody reads gets the answer %q", said)
		}
		opaque(event.VerdictDeny)
		s.swap(t, "Audit", asked)
		if said := try("/allowed/audited"); said != "welcome" {
			t.Errorf("under Audit the client says %q", said)
		}
		opaque(event.VerdictAudit)
		s.swap(t, "Enforce", plain)
		if said := try("/allowed/plain"); said != "welcome" {
			t.Errorf("where requests are not asked about, the client says %q", said)
		}
	})
}

// TestJavaIsOpaque: Java has a TLS of its own that no tap reads. keytool shows the certificate of a server, for which it needs no
// more than a handshake; not even that begins where requests are asked about.
func TestJavaIsOpaque(t *testing.T) {
	const keytool = "/usr/bin/keytool"
	if testutil.InVM() {
		t.Skip("the guest has no Java")
	}
	if _, err := os.Stat(keytool); err != nil {
		testutil.Unsupported(t, "client-java", err.Error())
	}
	attached.OnEachEnforcingStep(t, func(t *testing.T, step event.Step) {
		s := newScene(t, step)
		look := func() string {
			t.Helper()
			return s.box.Command(keytool, "-J-Dsun.net.client.defaultConnectTimeout=5000", "-printcert", "-rfc", "-sslserver", s.server.String()).Run(t)
		}
		s.swap(t, "Enforce", plain)
		if said := look(); !strings.Contains(said, "BEGIN CERTIFICATE") {
			t.Errorf("where requests are not asked about, keytool says %q", said)
		}
		s.swap(t, "Enforce", asked)
		if said := look(); strings.Contains(said, "BEGIN CERTIFICATE") {
			t.Errorf("where they are, keytool says %q", said)
		}
		e := s.events.Wait(t, "an opaque connection", func(e event.Event) bool { return e.Flaw == event.FlawTLS })
		if e.Verdict != event.VerdictDeny || e.Reason != event.ReasonOpaque || e.Remote != s.server || !strings.HasSuffix(e.Subject.Exe, "/keytool") {
			t.Errorf("it is told as %+v", e)
		}
	})
}

// ending sends a long request and ends at once: what is still on its way when the library's object is gone arrives.
func ending(t *testing.T, s *scene) {
	t.Helper()
	const size = 4 << 20
	c := s.start(t, "openssl", "s_client", "-no_ign_eof", "-connect", s.server.String())
	c.say(t, "POST /allowed/ending HTTP/1.1\r\nHost: a\r\nContent-Length: "+strconv.Itoa(size)+"\r\n\r\n")
	c.say(t, strings.Repeat("x", size))
	if err := c.in.Close(); err != nil {
		t.Fatal(err)
	}
	s.arrived(t, whole("/allowed/ending"))
	testutil.Eventually(t, "the end of the client", func() error {
		select {
		case <-c.end:
			return nil
		default:
			return fmt.Errorf("it goes on")
		}
	})
}
