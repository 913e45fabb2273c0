package cmd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"

	"github.com/sallyport/sallyport/agent/internal/config"
)

const statusHelp = `Ask the running agent what it does on this machine.

For each hook it says which step of the enforcement ladder this kernel gave it (lsm, fmod_ret, cgroup,
report) and what that step does not stop; for each policy the workloads that it covers, or why it is not
in force; for each workload which rules govern it; and what was lost or went wrong.`

func (p Program) status() *cobra.Command {
	c := &cobra.Command{
		Use:     "status",
		Short:   "Ask the agent what it enforces here, and what it cannot",
		Long:    statusHelp,
		Example: "  sallyport status\n  sallyport status -o json | jq '.hooks[] | select(.doesNotStop != \"\")'",
		Args:    noArgs,
	}
	output := addOutput(c)
	config.AddFlags(c.Flags(), "socket")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := dial(c)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }() // everything was read
		answer, err := client.Status(c.Context(), &apiv1.StatusRequest{})
		if err != nil {
			return fmt.Errorf("asking the agent: %w", err)
		}
		if output.json(p.Stdout) {
			return writeProto(p.Stdout, answer)
		}
		return writeStatus(p.Stdout, answer)
	}
	return c
}

// writeProto writes a message as JSON: indented for people, in one line for programs.
func writeProto(out io.Writer, m proto.Message) error {
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	// protojson varies its white space on purpose.
	var b bytes.Buffer
	if isTerminal(out) {
		err = json.Indent(&b, text, "", "  ")
	} else {
		err = json.Compact(&b, text)
	}
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	b.WriteByte('\n')
	if _, err := out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

func writeStatus(out io.Writer, s *apiv1.StatusResponse) error {
	head := newTable(out)
	pins := "loaded afresh"
	if s.GetAdopted() {
		pins = "adopted from an earlier agent"
	}
	head.row("agent", s.GetAgent().GetVersion()+", up "+s.GetUptime().AsDuration().Truncate(time.Second).String())
	head.row("kernel", s.GetKernel())
	head.row("programs", pins)
	head.row("revision", strconv.FormatUint(s.GetRevision(), 10))
	if err := head.flush(); err != nil {
		return err
	}
	for _, part := range []func(io.Writer, *apiv1.StatusResponse) error{writeHooks, writeRuntimes, writePolicies, writeWorkloads, writeCounters} {
		if err := part(out, s); err != nil {
			return err
		}
	}
	return nil
}

func writeHooks(out io.Writer, s *apiv1.StatusResponse) error {
	t := newSection(out, "HOOK", "STEP", "STATE", "PROGRAM", "DOES NOT STOP")
	for _, h := range s.GetHooks() {
		state := strings.ToLower(strings.TrimPrefix(h.GetState().String(), "HOOK_STATE_"))
		t.row(h.GetName(), dash(h.GetStep()), state, dash(h.GetProgram()), dash(h.GetDoesNotStop()))
	}
	if err := t.flush(); err != nil {
		return err
	}
	return writeRefused(out, s)
}

// writeRefused writes why stronger steps could not be had, each reason once.
func writeRefused(out io.Writer, s *apiv1.StatusResponse) error {
	hooks := map[string][]string{}
	for _, h := range s.GetHooks() {
		for line := range strings.Lines(h.GetError()) {
			line = strings.TrimSuffix(line, "\n")
			hooks[line] = append(hooks[line], h.GetName())
		}
	}
	if len(hooks) == 0 {
		return nil
	}
	t := newSection(out, "STRONGER STEP REFUSED", "HOOKS")
	for _, reason := range slices.Sorted(maps.Keys(hooks)) {
		t.row(reason, strings.Join(hooks[reason], ","))
	}
	return t.flush()
}

func writeRuntimes(out io.Writer, s *apiv1.StatusResponse) error {
	t := newSection(out, "BEFORE START", "STATE", "ADMITTED LATE", "REFUSED LATE", "DETAIL")
	for _, r := range s.GetRuntimes() {
		t.row(r.GetName(), r.GetState(), strconv.FormatUint(r.GetAdmitted(), 10), strconv.FormatUint(r.GetRefused(), 10), dash(r.GetDetail()))
	}
	if len(s.GetRuntimes()) == 0 {
		return nil
	}
	return t.flush()
}

func writePolicies(out io.Writer, s *apiv1.StatusResponse) error {
	t := newSection(out, "POLICY", "MODE", "WORKLOADS", "FILE")
	for _, p := range s.GetPolicies() {
		t.row(dash(p.GetName()), dash(p.GetMode()), strconv.Itoa(len(p.GetWorkloads())), p.GetFile())
	}
	if len(s.GetPolicies()) == 0 {
		t.row("none: everything is allowed")
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, p := range s.GetPolicies() {
		for line := range strings.Lines(p.GetError()) {
			fmt.Fprintln(out, "  error:", visible(strings.TrimSuffix(line, "\n")))
		}
	}
	return nil
}

func writeWorkloads(out io.Writer, s *apiv1.StatusResponse) error {
	t := newSection(out, "WORKLOAD", "CONTAINER", "GOVERNED", "RULESET", "GATE", "NOTE")
	for _, w := range s.GetWorkloads() {
		governed := "no"
		if w.GetGoverned() {
			governed = "yes"
		}
		note := w.GetNote()
		if w.GetProvisional() {
			note = strings.TrimSuffix("known by its cgroup only; "+note, "; ")
		}
		name := w.GetName()
		if name == "" {
			name = w.GetCgroup()
		}
		t.row(name, dash(w.GetContainer()), governed, strconv.FormatUint(uint64(w.GetRuleset()), 10), dash(w.GetGateInterface()), note)
	}
	if len(s.GetWorkloads()) == 0 {
		t.row("none")
	}
	if err := t.flush(); err != nil {
		return err
	}
	return writeTLS(out, s)
}

// writeTLS lists what reads the TLS of workloads, if any is to be read.
func writeTLS(out io.Writer, s *apiv1.StatusResponse) error {
	t, any := newSection(out, "TLS OF", "CONTAINER", "FILE", "TAP", "NOTE"), false
	for _, w := range s.GetWorkloads() {
		for _, f := range w.GetTls() {
			any = true
			t.row(w.GetName(), dash(w.GetContainer()), visible(string(f.GetPath())), dash(f.GetLibrary()), visible(f.GetWhy()))
		}
	}
	if !any {
		return nil
	}
	return t.flush()
}

// writeCounters writes the losses and errors, if there are any.
func writeCounters(out io.Writer, s *apiv1.StatusResponse) error {
	for _, list := range []struct {
		title    string
		counters []*apiv1.Counter
	}{{"LOST EVENTS", s.GetLosses()}, {"ERRORS", s.GetErrors()}} {
		t := newSection(out, list.title, "COUNT")
		some := false
		for _, counter := range list.counters {
			if counter.GetCount() > 0 {
				some = true
				t.row(counter.GetSite(), strconv.FormatUint(counter.GetCount(), 10))
			}
		}
		if !some {
			continue
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
