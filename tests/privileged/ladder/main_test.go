package ladder

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/probes"
	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/tests/testutil/attached"
	"github.com/sallyport/sallyport/tests/testutil/inventory"
	"github.com/sallyport/sallyport/tests/testutil/pod"
)

// envRole makes another program of the test binary: where tests need a process of their own that is
// no victim.
const envRole = "LADDER_ROLE"

// The roles.
const (
	roleRuntime = "runtime" // a container runtime's init: enters a mount namespace, then executes its arguments
	roleAgent   = "agent"   // attaches what the first line says, puts in force what the second says, waits for its end
	roleThreads = "threads" // several threads, which connect to the argument when a line comes
)

func TestMain(m *testing.M) {
	var err error
	switch role := os.Getenv(envRole); role {
	case "":
		inventory.Main(m, attached.Free)
	case roleRuntime:
		err = beRuntime(os.Args[1:])
	case roleAgent:
		err = beAgent()
	case roleThreads:
		err = beThreads(os.Args[1])
	default:
		err = fmt.Errorf("there is no role %s", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// role is this test binary in a container, in another role.
func (r *rig) role(c *pod.Container, role string, args ...string) *pod.Process {
	p := c.Command(append([]string{"/proc/self/exe"}, args...)...)
	p.Env = append(os.Environ(), envRole+"="+role)
	return p
}

func beRuntime(args []string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("entering a mount namespace: %w", err)
	}
	return fmt.Errorf("executing %s: %w", args[0], syscall.Exec(args[0], args, os.Environ()))
}

// attachment is the first line that an agent reads.
type attachment struct {
	Config probes.Config
	Step   event.Step
}

func beAgent() error {
	lines := json.NewDecoder(os.Stdin)
	var a attachment
	if err := lines.Decode(&a); err != nil {
		return fmt.Errorf("reading what to attach: %w", err)
	}
	agent, err := attachAgent(a.Config, a.Step)
	if err != nil {
		return err
	}
	fmt.Println("attached")
	var tables compile.Tables
	if err := lines.Decode(&tables); err != nil {
		return fmt.Errorf("reading tables: %w", err)
	}
	if _, err := agent.judge.Swap(&tables); err != nil {
		return err
	}
	fmt.Println("in force")
	_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
	return errors.Join(errors.New("nobody killed the agent"), err)
}

// threadCount is how many threads roleThreads has besides Go's own.
const threadCount = 8

func beThreads(address string) error {
	start := make(chan struct{})
	results := make([]string, threadCount)
	var ready, done sync.WaitGroup
	for i := range threadCount {
		ready.Add(1)
		done.Go(func() {
			runtime.LockOSThread()
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			ready.Done()
			<-start
			if err == nil {
				results[i] = connectOn(fd, address)
			}
		})
	}
	ready.Wait()
	fmt.Fprintln(os.Stderr, "ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return fmt.Errorf("waiting for a line: %w", err)
	}
	close(start)
	done.Wait()
	fmt.Println("threads:", strings.Join(results, " "))
	return nil
}

// connectOn connects a UDP socket and returns ok or the errno's name.
func connectOn(fd int, address string) string {
	to, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		return err.Error()
	}
	sa := &unix.SockaddrInet4{Port: to.Port}
	copy(sa.Addr[:], to.IP.To4())
	if err := unix.Connect(fd, sa); err != nil {
		return unix.ErrnoName(err.(syscall.Errno)) //nolint:errorlint // what connect(2) returns
	}
	return "ok"
}

// awaitLine reads lines of a process until one is want.
func awaitLine(t *testing.T, from *bufio.Scanner, want string) {
	t.Helper()
	const limit = 5 * time.Minute // the verifier alone takes one for all programs in a busy guest
	found := make(chan bool, 1)
	go func() {
		for from.Scan() {
			if from.Text() == want {
				found <- true
				return
			}
		}
		found <- false
	}()
	select {
	case ok := <-found:
		if !ok {
			t.Fatalf("the process ended before it said %q", want)
		}
	case <-time.After(limit):
		t.Fatalf("the process did not say %q within %v", want, limit)
	}
}
