package node

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/tests/testutil"
)

// scriptProbe is a probe that is a script of the image.
const scriptProbe = "/tmp/probe.sh"

// TestProbes has a container with exec probes: who executes just their commands is Probe, and everything else is Exec.
func TestProbes(t *testing.T) {
	forEach(t, func(t *testing.T, r release) {
		s := newScene(t, r)
		s.agent.Policy(t, "web.yaml", s.webPolicy())
		s.agent.start(t)
		plain := strings.Fields(s.connect(probePort))
		shell := []string{"sh", "-c", "sleep 0.1; " + s.connect(probePort) + "; exit 0"}
		long := []string{"sh", "-c", s.connect(probePort), strings.Repeat("x", 600)}
		list, err := json.Marshal([][]string{plain, shell, {scriptProbe, "ready"}, long})
		if err != nil {
			t.Fatal(err)
		}
		p := s.pod(t, podSpec{name: "probed", annotations: map[string]string{"sallyport.dev/probes.main": string(list)}})
		script := "#!/bin/sh\n" + s.connect(probePort) + "\n"
		web := p.run(t, "main", "printf '"+strings.ReplaceAll(script, "\n", `\n`)+"' >"+scriptProbe+"; chmod +x "+scriptProbe+"; "+s.knock(testutil.EchoPort))
		other := p.run(t, "other", s.knock(testutil.EchoPort))
		s.agent.awaitGoverned(t, web)
		s.agent.awaitGoverned(t, other)
		more(t, "the main program runs", func() string { return web.output(t) }, "connect-tcp: ok", 3)

		for range 20 {
			want(t, "a probe", web.exec(t, plain...).Stdout, "ok")
		}
		want(t, "a probe by a shell", web.exec(t, shell...).Stdout, "ok")
		want(t, "a probe that is a script", web.exec(t, scriptProbe, "ready").Stdout, "ok")
		want(t, "a probe by kubectl exec, which cannot be told apart", web.stream(t, false, plain...), "ok")
		for name, argv := range map[string][]string{
			"another argument":            append(append([]string{}, plain[:len(plain)-1]...), "2001"),
			"one argument less":           plain[:len(plain)-1],
			"another program":             append([]string{"/bin/victim"}, plain[1:]...),
			"the same text in one":        {"sh", "-c", strings.Join(plain, " ")},
			"the script with more":        {scriptProbe, "ready", "x"},
			"the script by a shell":       {"sh", scriptProbe, "ready"},
			"what is too long to compare": long,
		} {
			want(t, "an exec with "+name, web.exec(t, argv...).Stdout, "EPERM")
		}
		want(t, "the probe's command in another container", other.exec(t, plain...).Stdout, "EPERM")
		// A main program that executes a probe's command does not become a probe.
		main := p.run(t, "forger", "sleep 1; "+strings.Join(plain, " "))
		s.agent.awaitGoverned(t, main)
		want(t, "a main program with a probe's arguments", main.awaitOutput(t), "EPERM")
		// An exec that executes a probe's command stays an exec.
		want(t, "an exec that executes a probe's command", web.exec(t, append([]string{"env"}, plain...)...).Stdout, "EPERM")

		s.forbidden.ExpectNone(t)
		if n := len(s.probed.Contacts()); n != 23 {
			t.Errorf("%d probes have arrived, want 23", n)
		}
		for _, e := range s.agent.observe(t, "--kind", "session-start,session-end") {
			if e.Origin == "Probe" {
				t.Errorf("a probe is told as an alert: %s", e.Message)
			}
		}
		s.noLosses(t)
	})
}
