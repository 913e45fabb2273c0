package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/tests/testutil"
)

// envSoak is how long the soak lasts, as a duration, where it is not soakLast.
const (
	envSoak  = "SOAK"
	soakLast = 45 * time.Second
)

// The agent's memory may grow by so much between the first third of a soak and its end: caches fill, and Go gives back late.
const (
	soakGrowth = 1.25
	soakSlack  = 16 << 20 // bytes
)

// sample is what the agent and its tables take at one time.
type sample struct {
	rss, files int
	maps       map[string]int // entries of those that only grow by what there is
	made       int            // lines of the main program so far, each of 200 connects
}

// TestSoak holds an agent under mixed load: allowed and denied calls, sessions, containers that come and go, policies that
// change. Its memory, its files and its tables must not grow, nothing that is denied may get through, nothing that is
// allowed may fail.
func TestSoak(t *testing.T) {
	last := soakLast
	if text := os.Getenv(envSoak); text != "" {
		var err error
		last, err = time.ParseDuration(text)
		check(t, err)
	}
	s := newScene(t)
	s.agent.Policy(t, "web.yaml", s.webPolicy())
	s.agent.Start(t)
	web := s.run(t, "web", s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, "web")
	web.ExecDetached(t, "shell", "sh", "-c", s.knock(forbiddenPort))
	var samples []sample
	for end, i := time.Now().Add(last), 0; time.Now().Before(end) || len(samples) < 6; i++ {
		s.churn(t, web, i)
		samples = append(samples, s.sample(t, web))
	}
	s.steady(t, samples)
	s.forbidden.ExpectNone(t)
	s.wantUnbroken(t, web.Log(t))
	log := web.ExecLog(t, "shell")
	if n := count(log, "connect-tcp:") - count(log, "connect-tcp: EPERM"); n != 0 {
		t.Errorf("%d attempts of the shell were not denied", n)
	}
}

// churn is what a node does: a container comes and goes, somebody opens a shell in both, and the policy changes.
func (s *scene) churn(t *testing.T, web *testutil.Container, i int) {
	t.Helper()
	s.agent.Policy(t, "other.yaml", s.policyOf("other", fmt.Sprintf("  rules: [{name: none%d, processes: [{binaries: [/nowhere/%d]}], action: Deny}]\n", i%7, i)))
	id := fmt.Sprintf("guest%d", i)
	guest := s.run(t, id, s.load(testutil.EchoPort))
	s.agent.awaitGoverned(t, id)
	s.wantShell(t, guest, "EPERM")
	s.wantShell(t, web, "EPERM")
	guest.Remove(t)
	s.agent.awaitStatus(t, id+" is gone", func(st status) error {
		if slices.ContainsFunc(st.Workloads, func(w workloadStatus) bool { return w.ContainerID == id }) {
			return errors.New("it is there")
		}
		return nil
	})
}

// sample looks at the agent's process and at the pinned tables.
func (s *scene) sample(t *testing.T, web *testutil.Container) sample {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", s.agent.Cmd.Process.Pid)
	text, err := os.ReadFile(proc + "statm")
	check(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	check(t, err)
	files, err := os.ReadDir(proc + "fd")
	check(t, err)
	out := sample{rss: pages * os.Getpagesize(), files: len(files), maps: map[string]int{}, made: count(web.Log(t), "loop-tcp:")}
	for _, name := range []string{
		"container_by_cgroup", "ids_by_container", "mntns_by_container", "netns_by_cookie", "gate_by_ifindex", "probe_by_slot",
		"name_by_hash", "names_by_addr", "names_of_cgrp", "refusals",
	} {
		out.maps[name], err = entries(filepath.Join(s.agent.Path("bpf/sallyport"), name))
		check(t, err)
	}
	return out
}

// entries counts those of a pinned map.
func entries(pin string) (n int, err error) {
	m, err := ebpf.LoadPinnedMap(pin, nil)
	if err != nil {
		return 0, err
	}
	var key []byte
	for key, err = m.NextKeyBytes(nil); key != nil && err == nil; key, err = m.NextKeyBytes(key) {
		n++
	}
	return n, errors.Join(err, m.Close())
}

// steady compares the first third of a soak with its last sample, and prints how it went.
func (s *scene) steady(t *testing.T, samples []sample) {
	t.Helper()
	third := samples[:(len(samples)+2)/3]
	end := samples[len(samples)-1]
	most := third[0]
	for _, one := range third {
		most.rss, most.files = max(most.rss, one.rss), max(most.files, one.files)
	}
	t.Logf("%d rounds, %d allowed connects; resident %d to %d KiB, files %d to %d", len(samples), 200*end.made, most.rss>>10, end.rss>>10, most.files, end.files)
	if limit := int(float64(most.rss)*soakGrowth) + soakSlack; end.rss > limit {
		t.Errorf("the agent has %d bytes at the end, and had %d at most in the first third", end.rss, most.rss)
	}
	const slack = 8 // descriptors of what is being looked at just now
	if end.files > most.files+slack {
		t.Errorf("the agent has %d files open, and had %d at most in the first third", end.files, most.files)
	}
	for name, n := range end.maps {
		if was := third[0].maps[name]; n > was+1 { // a container that the kernel has not let go of yet
			t.Errorf("%s has %d entries, and had %d", name, n, was)
		}
	}
}
