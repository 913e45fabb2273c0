package read

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
)

// What makes the test binary a server in the pod, or a client, of the conversations behind it.
const (
	serveArg = "sallyport-serve"
	holdArg  = "sallyport-hold"
	askArg   = "sallyport-ask"

	askHTTP2Arg = "sallyport-ask-http2"
)

func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == serveArg:
		err = serve(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == holdArg:
		err = holdAll(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == askArg:
		err = ask(os.Args[2], &http.Client{Timeout: patience})
	case len(os.Args) == 3 && os.Args[1] == askHTTP2Arg:
		protocols := &http.Protocols{}
		protocols.SetUnencryptedHTTP2(true)
		err = ask(os.Args[2], &http.Client{Timeout: patience, Transport: &http.Transport{Protocols: protocols}})
	case len(os.Args) == 3 && os.Args[1] == serveHTTP2Arg:
		err = serveHTTP2(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == askForArg:
		err = askFor(os.Args[2], os.Args[3])
	case len(os.Args) == 4 && os.Args[1] == callArg:
		err = call(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == upgradeArg:
		err = serveUpgrades(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == chatArg:
		err = chat(os.Args[2])
	case len(os.Args) == 5 && os.Args[1] == repairArg:
		err = repaired(os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) == 3 && os.Args[1] == speakArg:
		err = speak(os.Args[2])
	case len(os.Args) == 5 && os.Args[1] == amidArg:
		err = amidTimes(os.Args[2], os.Args[3], os.Args[4], func(f func() error) error { return f() })
	case len(os.Args) == 3 && os.Args[1] == lateArg:
		err = listenLate(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == deafArg:
		err = listenDeaf(os.Args[2], os.Args[3])
	case len(os.Args) == 5 && os.Args[1] == waysArg:
		err = sayIn(os.Args[2], os.Args[3], os.Args[4])
	default:
		inventory.Main(m, attached.Free)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// How a connection ends.
const (
	open    = ""      // by who made it
	ended   = "ended" // by the other end, in order
	reset   = "reset"
	aborted = "aborted" // by the agent
)

// conversation is what is said on a connection, and what is to come of it.
type conversation struct {
	Name   string
	Pieces []string // each in segments of its own
	Wait   bool     // before the next piece, until Back has begun to come as far as what was said is long
	Back   string   // all that comes back
	Heard  []string // in its place: what comes back behind each piece, before the next
	Ends   string
}

// patience is how long anything may take: far more than it does, on a machine too that stands still for a while.
const patience = time.Minute

// hold holds the conversation with a server. It returns what is wrong with it, or nothing.
func (c conversation) hold(addr string) string {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }() // its end is not what counts
	wrong := c.holdOn(conn)
	if wrong != "" {
		wrong += "\n" + inKernel(conn.LocalAddr())
	}
	return wrong
}

// inKernel is what the kernel says of the sockets with the port of one in this network namespace: their states, queues and timers.
func inKernel(addr net.Addr) string {
	var out []string
	port := fmt.Sprintf(":%04X ", addr.(*net.TCPAddr).Port)
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + table)
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, port) {
				out = append(out, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(out, "\n")
}

// holdOn holds it on a connection.
func (c conversation) holdOn(conn net.Conn) string {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err.Error()
	}
	if c.Heard != nil {
		return c.takeTurns(conn)
	}
	said, back := 0, make([]byte, len(c.Back))
	for i, piece := range c.Pieces {
		if i > 0 && !c.Wait {
			time.Sleep(time.Millisecond) // else they could leave together
		}
		if _, err := io.WriteString(conn, piece); err != nil {
			return fmt.Sprintf("piece %d: %v", i, err)
		}
		was := said
		said += len(piece)
		if !c.Wait || i == len(c.Pieces)-1 {
			continue
		}
		if _, err := io.ReadFull(conn, back[was:said]); err != nil {
			return fmt.Sprintf("after piece %d: %v", i, err)
		}
	}
	read := 0
	if c.Wait {
		read = said - len(c.Pieces[len(c.Pieces)-1])
	}
	n, err := io.ReadFull(conn, back[read:])
	if got := string(back[:read+n]); got != c.Back {
		return fmt.Sprintf("%q comes back (%v)", got, err)
	}
	return c.end(conn)
}

// takeTurns holds one of which is known what is heard behind each piece.
func (c conversation) takeTurns(conn net.Conn) string {
	for i, piece := range c.Pieces {
		if i > 0 && c.Heard[i-1] == "" {
			time.Sleep(time.Millisecond) // else they could leave together
		}
		if _, err := io.WriteString(conn, piece); err != nil {
			return fmt.Sprintf("piece %d: %v", i, err)
		}
		back := make([]byte, len(c.Heard[i]))
		if n, err := io.ReadFull(conn, back); string(back[:n]) != c.Heard[i] {
			return fmt.Sprintf("%q comes back behind piece %d (%v)", back[:n], i, err)
		}
	}
	return c.end(conn)
}

// end waits for the end of the connection. It returns what is wrong with it.
func (c conversation) end(conn net.Conn) string {
	if c.Ends == open {
		return ""
	}
	more, err := io.ReadAll(conn)
	how := ended
	for errno, meaning := range map[unix.Errno]string{unix.ECONNRESET: reset, unix.ECONNABORTED: aborted} {
		if errors.Is(err, errno) {
			how, err = meaning, nil
		}
	}
	if err != nil || how != c.Ends || len(more) > 0 {
		return fmt.Sprintf("it is %s with %q: %v", how, more, err)
	}
	return ""
}

// order is an argument that has the test binary hold conversations, whatever bytes are said in them.
func order(t *testing.T, all ...conversation) string {
	t.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(all); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b.Bytes())
}

// holdAll holds conversations of an order, all at a time, and prints what is wrong.
func holdAll(addr, ordered string) error {
	var all []conversation
	raw, err := hex.DecodeString(ordered)
	if err != nil {
		return err
	}
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&all); err != nil {
		return err
	}
	fmt.Print(strings.Join(atOnce(addr, all), "\n"))
	return nil
}

func atOnce(addr string, all []conversation) (wrong []string) {
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for _, c := range all {
		wg.Go(func() {
			if got := c.hold(addr); got != "" {
				mu.Lock()
				defer mu.Unlock()
				wrong = append(wrong, c.Name+": "+got)
			}
		})
	}
	wg.Wait()
	return wrong
}

// ask is a client with a pool of connections: again and again it makes an allowed request and then a denied one with more
// of a body than is sent before an answer can come. It returns what is wrong.
func ask(url string, client *http.Client) error {
	for i := range 20 {
		for _, c := range []struct {
			method, path, want string
			status             int
		}{
			{http.MethodPost, "/v1/request-landing", "Ship landed", http.StatusOK},
			{http.MethodPut, "/v1/exhaust-port", denied + "\r\n", http.StatusForbidden},
		} {
			body := io.LimitReader(zeroes{}, 1<<20)
			if c.method == http.MethodPost {
				body = nil
			}
			request, err := http.NewRequest(c.method, url+c.path, body)
			if err != nil {
				return err
			}
			response, err := client.Do(request)
			if err != nil {
				return fmt.Errorf("request %d: %w", i, err)
			}
			text, err := io.ReadAll(response.Body)
			_ = response.Body.Close() // was read
			if err != nil || response.StatusCode != c.status || string(text) != c.want {
				return fmt.Errorf("request %d: %s with %q: %w", i, response.Status, text, err)
			}
		}
	}
	return nil
}

// zeroes is as long as anybody reads.
type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// cut are conversations like one in which a text is said in two pieces, one for each place between its bytes.
func cut(name, text string, one conversation) (all []conversation) {
	for i := 1; i < len(text); i++ {
		c := one
		c.Name, c.Pieces = fmt.Sprintf("%s, split behind %d bytes", name, i), []string{text[:i], text[i:]}
		all = append(all, c)
	}
	return all
}
