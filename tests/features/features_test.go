package features

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/sallyport/sallyport/tests/testutil"
	"github.com/sallyport/sallyport/tests/testutil/feature"
)

//go:embed features.md
var table string

// The environment.
const (
	envAll     = "FEATURES" // "all": rare rows too
	envFeature = "FEATURE"  // a regular expression: rows of such names alone
)

const none = "–"

const head = "| without | on | the agent | steps | Main: allowed, not allowed | a shell | veth | taps | it says |"

// kernelHere names the running kernel as rows do; "": no row is about it.
func kernelHere(t *testing.T) (on string, lsm bool) {
	t.Helper()
	if testutil.InVM() {
		for _, on := range []string{"6.1", "6.12"} {
			if strings.HasPrefix(os.Getenv("VMRUN_RELEASE"), on+".") {
				return on, feature.LSM() == nil
			}
		}
		t.Fatalf("no row is about kernel %s", os.Getenv("VMRUN_RELEASE"))
	}
	if feature.Fentry() == nil || feature.CgroupTaskStorage() != nil {
		t.Log("the rows are about other kernels than this one, which lacks nothing that could be given back")
		return "", false
	}
	return here, false
}

// TestFeatures holds that the agent does on this kernel, with each thing taken away, what the table says; and prints its rows.
func TestFeatures(t *testing.T) {
	testutil.RequireRoot(t)
	on, lsm := kernelHere(t)
	only := regexp.MustCompile(os.Getenv(envFeature))
	var lines []string
	for _, r := range rows() {
		if r.on != on || r.lsm != lsm || !only.MatchString(r.name) || r.rare && os.Getenv(envAll) == "" {
			continue
		}
		t.Run(r.name, func(t *testing.T) { lines = append(lines, r.try(t)...) })
	}
	fmt.Fprintln(os.Stdout, "\n"+strings.Join(lines, "\n"))
	for _, line := range lines {
		if !strings.Contains(table, "\n"+line+"\n") {
			t.Errorf("features.md has no row %s", line)
		}
	}
}

// TestTable: the table has the rows that are tried, each once.
func TestTable(t *testing.T) {
	want := []string{head, "|---|---|---|---|---|---|---|---|---|"}
	for _, r := range rows() {
		want = append(want, r.line())
		if r.later != nil {
			want = append(want, r.later.line())
		}
	}
	var got []string
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "|") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("features.md has %d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("features.md has the row %s, want %s", got[i], want[i])
		}
	}
}

// try takes it away, starts an agent, and returns the row, and that of what is taken away later.
func (r *row) try(t *testing.T) []string {
	s := newScene(t)
	r.take(t, s)
	code, said := s.start(t, cmp.Or(r.steps, allSteps))
	if code >= 0 {
		return []string{r.line(fmt.Sprintf("refuses, exit code %d", code), none, none, none, none, none, r.said(t, said))}
	}
	c := s.run(t, r.late)
	taps := c.taps(t)
	main, shell := c.main(t), c.shell(t)
	a := s.status(t)
	veth, note := s.gated(t, a)
	lines := []string{r.line("starts", a.steps(), main, shell, veth, taps, r.said(t, a.refused()+note+s.agent.Log(t)))}
	if r.later != nil {
		r.later.take(t, s)
		told := r.later.await(t, s)
		lines = append(lines, r.later.line("goes on", s.status(t).steps(), none, c.shell(t), veth, taps, told))
	}
	return lines
}

// await waits until the agent has told of it.
func (r *row) await(t *testing.T, s *scene) (said string) {
	t.Helper()
	says := regexp.MustCompile(r.says)
	testutil.Eventually(t, r.name, func() error {
		if said = says.FindString(s.agent.Alerts(t)); said == "" {
			return errors.New("the alerts do not say it")
		}
		return nil
	})
	return said
}

// line is the row with these cells behind those that say what it is about.
func (r *row) line(cells ...string) string {
	return "| " + strings.Join(append([]string{r.name, r.on}, cells...), " | ") + " |"
}

// said is what the row is to say of all that the agent said.
func (r *row) said(t *testing.T, all string) string {
	t.Helper()
	if r.says == "" {
		return ""
	}
	found := regexp.MustCompile(r.says).FindString(all)
	if found == "" {
		t.Errorf("it does not say %s, but %s", r.says, all)
	}
	return found
}

// steps are those of the ladder that hooks have got.
func (a *answer) steps() string {
	var steps []string
	for _, h := range a.Hooks {
		if !slices.Contains(steps, h.Step) && !slices.Contains([]string{"none", "gate", "tap", ""}, h.Step) {
			steps = append(steps, h.Step)
		}
	}
	return strings.Join(steps, ", ")
}

// gated is what the veth cell says, and why it is not gated.
func (s *scene) gated(t *testing.T, a *answer) (cell, note string) {
	t.Helper()
	w := a.workload()
	if w.GateInterface == "" {
		return "not gated", w.Note + "\n"
	}
	filters, err := s.net.Node.Handle(t).FilterList(s.net.Gate, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		t.Fatal("listing filters: ", err)
	}
	if len(filters) > 0 {
		return "clsact", ""
	}
	return "tcx", ""
}
