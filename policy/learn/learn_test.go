package learn_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/compile"
	"github.com/sallyport/sallyport/policy/flows"
	"github.com/sallyport/sallyport/policy/learn"
	"github.com/sallyport/sallyport/policy/match"
)

// line makes an event of the checkout pod.
func line(at, more string) string {
	return `{"time":"2026-11-01T10:00:` + at + `Z","kind":"connect","call":"connect","namespace":"shop","pod":"checkout-7d9f8b6c5d-x2x4z",` +
		`"container":"checkout","origin":"Main","binary":"/usr/bin/checkout","verdict":"Allow",` + more + "}\n"
}

const labelled = `"podLabels":"app=checkout,pod-template-hash=7d9f8b6c5d",`

func learnFrom(t *testing.T, text string, o learn.Options) learn.Result {
	t.Helper()
	log, err := flows.Read(strings.NewReader(text), flows.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := learn.Learn(log, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLearn(t *testing.T) {
	t.Parallel()
	seen := line("01", labelled+`"peer":"203.0.113.9:443/TCP"`) +
		line("02", labelled+`"peer":"203.0.113.9:443/TCP"`) +
		line("03", labelled+`"peer":"203.0.113.10:443/TCP"`) +
		line("04", labelled+`"peer":"10.96.0.10:53/UDP"`) +
		line("05", labelled+`"peer":"10.96.0.10:53/TCP"`) +
		line("06", labelled+`"peer":"10.0.0.1:8001/TCP"`) + line("06", labelled+`"peer":"10.0.0.1:8003/TCP"`) + line("06", labelled+`"peer":"10.0.0.1:8002/TCP"`) +
		line("07", labelled+`"peer":"[2001:db8::1]/ICMPv6"`) +
		strings.Replace(line("08", labelled+`"peer":"10.0.0.7:50000/TCP","local":"10.0.0.1:8080/TCP"`), `"call":"connect"`, `"call":"accept"`, 1) +
		strings.Replace(line("09", labelled+`"peer":"198.51.100.1:80/TCP"`), "Main", "Exec", 1) + // a shell
		strings.Replace(line("10", labelled+`"peer":"198.51.100.2:80/TCP"`), "Allow", "Deny", 1) +
		strings.Replace(line("11", labelled+`"peer":"198.51.100.3:80/TCP"`), "Allow", "Audit", 1) +
		line("12", labelled+`"peer":"127.0.0.1:80/TCP"`) +
		line("13", labelled+`"peer":"198.51.100.4/47"`) +
		strings.Replace(line("14", labelled+`"peer":"10.96.0.10:53/UDP"`), `"/usr/bin/checkout"`, `"/opt/*[x].py","interpreter":"/usr/bin/python3"`, 1) +
		strings.Replace(line("15", labelled+`"peer":"10.96.0.10:53/UDP"`), `"/usr/bin/checkout"`, `"/bin/\\xff"`, 1)
	r := learnFrom(t, seen, learn.Options{Mode: policy.ModeAudit})
	const want = `# Learnt from what was seen 11 times, 2026-11-01 10:00:01 to 2026-11-01 10:00:14 UTC.
# Pods of: checkout.
apiVersion: sallyport.dev/v1alpha1
kind: ProcessPolicy
metadata:
  name: checkout
  namespace: shop
spec:
  podSelector: {matchLabels: {app: checkout}}
  mode: Audit
  rules:
  - name: main-x-py
    processes:
    - origins: [Main]
      containers: [checkout]
      binaries: ['/opt/\*\[x].py']
    egress:
    # once, 2026-11-01 10:00:14 UTC
    - toCIDR: [10.96.0.10]
      toPorts:
      - ports: [{port: "53", protocol: UDP}]
  - name: main-checkout
    processes:
    - origins: [Main]
      containers: [checkout]
      binaries: [/usr/bin/checkout]
    egress:
    # 3 times, 2026-11-01 10:00:06 UTC
    - toCIDR: [10.0.0.1]
      toPorts:
      - ports: [{port: "8001", endPort: 8003, protocol: TCP}]
    # 2 times, 2026-11-01 10:00:04 to 2026-11-01 10:00:05 UTC
    - toCIDR: [10.96.0.10]
      toPorts:
      - ports: [{port: "53", protocol: TCP}, {port: "53", protocol: UDP}]
    # 3 times, 2026-11-01 10:00:01 to 2026-11-01 10:00:03 UTC
    - toCIDR: [203.0.113.9, 203.0.113.10]
      toPorts:
      - ports: [{port: "443", protocol: TCP}]
    # once, 2026-11-01 10:00:07 UTC
    - toCIDR: ['2001:db8::1']
      toPorts:
      - ports: [{protocol: ICMPv6}]
    ingress:
    # once, 2026-11-01 10:00:08 UTC
    - fromCIDR: [10.0.0.7]
      toPorts:
      - ports: [{port: "8080", protocol: TCP}]
  # What was not seen is not allowed.
  - name: rest
    egress: []
    ingress: []
`
	if diff := cmp.Diff(want, string(r.YAML)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	leftOut := map[string]uint64{
		"it is from an exec session (--include-exec)": 1, "it was denied (--include-denied)": 1, "it would have been denied (--include-audited)": 1,
		"loopback needs no rule": 1, "no policy can name the protocol and port": 1, "no policy can name the program": 1,
	}
	if diff := cmp.Diff(leftOut, r.LeftOut); diff != "" || r.Learnt != 11 {
		t.Errorf("learnt from %d events; left out (-want +got)\n%s", r.Learnt, diff)
	}
	all := learnFrom(t, seen, learn.Options{Mode: policy.ModeEnforce, IncludeExec: true, IncludeDenied: true, IncludeAudited: true, Open: true})
	for _, part := range []string{"- name: exec-checkout", "198.51.100.1", "198.51.100.2", "198.51.100.3", "mode: Enforce"} {
		if !strings.Contains(string(all.YAML), part) {
			t.Errorf("%s is not in\n%s", part, all.YAML)
		}
	}
	if strings.Contains(string(all.YAML), "rest") {
		t.Errorf("an open policy has a rest\n%s", all.YAML)
	}
}

func TestLearnWidens(t *testing.T) {
	t.Parallel()
	var seen strings.Builder
	for _, peer := range []string{"10.0.0.1:80", "10.0.0.9:80", "10.0.1.1:80", "[2001:db8::1]:80", "[2001:db8::2]:80"} {
		seen.WriteString(line("01", labelled+`"peer":"`+peer+`/TCP"`))
	}
	r := learnFrom(t, seen.String(), learn.Options{Mode: policy.ModeEnforce, WidenV4: 24, WidenV6: 64})
	if want := "toCIDR: [10.0.0.0/24, 10.0.1.1, '2001:db8::/64']"; !strings.Contains(string(r.YAML), want) {
		t.Errorf("no %s in\n%s", want, r.YAML)
	}
}

func TestLearnWithoutLabels(t *testing.T) {
	t.Parallel()
	r := learnFrom(t, line("01", `"peer":"10.0.0.1:80/TCP"`)+
		strings.Replace(line("02", `"peer":"10.0.0.2:80/TCP"`), `"container":"checkout"`, `"container":"proxy"`, 1), learn.Options{Mode: policy.ModeAudit})
	if len(r.Policies) != 2 || strings.Count(string(r.YAML), "# The pods' labels are not known") != 2 ||
		!strings.Contains(string(r.YAML), "name: rest\n    processes:\n    - containers: [proxy]\n") {
		t.Errorf("%d policies\n%s", len(r.Policies), r.YAML)
	}
	if r := learnFrom(t, "", learn.Options{Mode: policy.ModeAudit}); r.YAML != nil || r.Policies != nil {
		t.Errorf("nothing became %s", r.YAML)
	}
}

// TestLearnNames writes names where they are known and the workload asks a resolver.
func TestLearnNames(t *testing.T) {
	t.Parallel()
	named := line("02", labelled+`"peer":"203.0.113.9:443/TCP","peerName":"api.payments.example"`) +
		line("03", labelled+`"peer":"203.0.113.10:443/TCP","peerName":"API.payments.example."`) +
		line("04", labelled+`"peer":"203.0.113.11:443/TCP","peerName":"no name: {"`)
	r := learnFrom(t, line("01", labelled+`"peer":"10.96.0.10:53/UDP"`)+named, learn.Options{Mode: policy.ModeEnforce})
	const want = `    egress:
    # once, 2026-11-01 10:00:01 UTC
    - toCIDR: [10.96.0.10]
      toPorts:
      # Every name may be asked for; the answers tell which addresses the names below have.
      - ports: [{port: "53", protocol: UDP}]
        rules: {dns: [{matchPattern: '*'}]}
    # once, 2026-11-01 10:00:04 UTC
    - toCIDR: [203.0.113.11]
      toPorts:
      - ports: [{port: "443", protocol: TCP}]
    # 2 times, 2026-11-01 10:00:02 to 2026-11-01 10:00:03 UTC
    - toFQDNs: [{matchName: api.payments.example}]
      toPorts:
      - ports: [{port: "443", protocol: TCP}]
`
	if !strings.Contains(string(r.YAML), want) {
		t.Errorf("got\n%s", r.YAML)
	}
	in := policy.Input{Policies: r.Policies}
	p := policy.Process{
		Workload: policy.Workload{Namespace: "shop", Container: "checkout", Labels: map[string]string{"app": "checkout"}},
		Origin:   policy.OriginMain, Exe: "/usr/bin/checkout",
	}
	for _, tt := range []struct {
		address string
		names   []string
		denied  bool
	}{
		{"203.0.113.9", []string{"api.payments.example"}, false},
		{"198.51.100.1", []string{"api.payments.example"}, false}, // where the name is now
		{"203.0.113.9", nil, true},
		{"203.0.113.9", []string{"payments.example"}, true},
		{"203.0.113.11", nil, false},
	} {
		c := policy.Call{Peer: netip.MustParseAddr(tt.address), Protocol: 6, Port: 443, Names: tt.names}
		if d := match.Judge(in, p, c); d.Denies() != tt.denied {
			t.Errorf("%s %v: %s", tt.address, tt.names, d.Verdict)
		}
	}
	for what, r := range map[string]learn.Result{
		"no resolver": learnFrom(t, named, learn.Options{Mode: policy.ModeEnforce}),
		"--addresses": learnFrom(t, line("01", labelled+`"peer":"10.96.0.10:53/UDP"`)+named, learn.Options{Mode: policy.ModeEnforce, Addresses: true}),
	} {
		if strings.Contains(string(r.YAML), "FQDN") || strings.Contains(string(r.YAML), "dns") || !strings.Contains(string(r.YAML), "203.0.113.9, 203.0.113.10, 203.0.113.11") {
			t.Errorf("%s\n%s", what, r.YAML)
		}
	}
}

// TestLearnWhatWasSaid: queries and requests that were seen are what may be asked for.
func TestLearnWhatWasSaid(t *testing.T) {
	t.Parallel()
	web := labelled + `"peer":"192.0.2.1:80/TCP"`
	text := line("01", labelled+`"peer":"10.96.0.10:53/UDP"`) +
		line("02", labelled+`"kind":"dns","peer":"10.96.0.10:53/UDP","query":"www.example.com","answer":true,"verdict":"Allow"`) +
		line("03", labelled+`"kind":"dns","peer":"10.96.0.10:53/UDP","query":"bad.example","verdict":"Deny"`) +
		line("04", labelled+`"kind":"dns","peer":"10.96.0.10:53/UDP","query":"no name","answer":true,"verdict":"Allow"`) +
		line("05", labelled+`"peer":"203.0.113.9:443/TCP","peerName":"api.payments.example"`) +
		line("06", web) + line("06", labelled+`"peer":"192.0.2.1:81/TCP"`) +
		line("07", web+`,"kind":"request","call":"packet-out","method":"GET","path":"/a.b","host":"h.example","verdict":"Allow"`)
	for i := range 20 {
		text += line("08", labelled+fmt.Sprintf(`"peer":"192.0.2.2:80/TCP","kind":"request","call":"packet-out","method":"PUT","path":"/%d","verdict":"Allow"`, i))
	}
	r := learnFrom(t, text, learn.Options{Mode: policy.ModeEnforce})
	for _, want := range []string{
		"rules: {dns: [{matchName: api.payments.example}, {matchName: www.example.com}]}",
		`      - ports: [{port: "81", protocol: TCP}]
      - ports: [{port: "80", protocol: TCP}]
        rules: {http: [{method: GET, path: /a\.b, host: h\.example}]}`,
		"rules: {http: [{method: PUT}]}",
	} {
		if !strings.Contains(string(r.YAML), want) {
			t.Errorf("no %s in\n%s", want, r.YAML)
		}
	}
	if r.LeftOut["it was denied (--include-denied)"] != 1 || r.LeftOut["no policy can name what was asked for"] != 1 {
		t.Errorf("left out are %v", r.LeftOut)
	}
	in := policy.Input{Policies: r.Policies}
	p := policy.Process{
		Workload: policy.Workload{Namespace: "shop", Container: "checkout", Labels: map[string]string{"app": "checkout"}},
		Origin:   policy.OriginMain, Exe: "/usr/bin/checkout",
	}
	log, err := flows.Read(strings.NewReader(text), flows.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range log.Flows { // what was learnt from is allowed, and no other name
		if f.Query != nil && (*f.Query == "bad.example" || *f.Query == "no name") {
			if d := match.Decide(in, p, f.Question()); !d.Denies() {
				t.Errorf("%s is allowed", f.Said())
			}
		} else if d := match.Decide(in, p, f.Question()); d.Denies() {
			t.Errorf("%s %s is denied", f.Call, f.Said())
		}
	}
}

// universe is what a random workload may do.
type universe struct {
	processes []policy.Process
	calls     []policy.Call
}

func newUniverse() (u universe) {
	for _, container := range []string{"web", "side-car"} {
		for _, labels := range []map[string]string{{"app": "web"}, {"app": "db"}} {
			for _, origin := range []policy.Origin{policy.OriginMain, policy.OriginExec, policy.OriginUnknown} {
				for _, program := range [][2]string{{"/usr/bin/web"}, {"/usr/bin/w*"}, {"memfd:a[b]"}, {"/usr/bin/python3", "/opt/a.py"}, {"/usr/bin/python3", "/opt/{b}.py"}} {
					w := policy.Workload{Namespace: "shop", Container: container, Labels: labels}
					u.processes = append(u.processes, policy.Process{Workload: w, Origin: origin, Exe: program[0], Script: program[1]})
				}
			}
		}
	}
	for _, direction := range []policy.Direction{policy.Egress, policy.Ingress} {
		for _, address := range []string{"10.0.0.1", "10.0.0.2", "10.0.1.1", "2001:db8::1"} {
			for _, port := range []uint16{1, 79, 80, 81, 65535} {
				for _, protocol := range []uint8{6, 17} {
					u.calls = append(u.calls, policy.Call{Direction: direction, Peer: netip.MustParseAddr(address), Protocol: protocol, Port: port})
				}
			}
			u.calls = append(u.calls, policy.Call{Direction: direction, Peer: netip.MustParseAddr(address), Protocol: 1})
		}
	}
	return u
}

// TestReplay learns from random flows and asks the result about everything that could have been: what
// was seen is allowed, and nothing else.
func TestReplay(t *testing.T) {
	t.Parallel()
	u := newUniverse()
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 0))
		var log flows.Log
		seen := map[string]bool{}
		ask := func(p *policy.Process, c policy.Call) string {
			return fmt.Sprint(p.Workload.Container, p.Workload.Labels, p.Origin, p.Exe, p.Script, c.Direction, c)
		}
		for range 1 + random.IntN(60) {
			f := flows.Flow{
				Process: u.processes[random.IntN(len(u.processes))], Call: u.calls[random.IntN(len(u.calls))],
				Verdict: policy.VerdictAllow, Count: 1, First: time.Unix(1, 0), Last: time.Unix(2, 0),
			}
			if random.IntN(4) == 0 {
				f.Verdict = policy.VerdictDeny
			} else if f.Process.Origin != policy.OriginExec {
				seen[ask(&f.Process, f.Call)] = true
			}
			log.Flows = append(log.Flows, f)
		}
		r, err := learn.Learn(log, learn.Options{Mode: policy.ModeEnforce})
		if err != nil {
			t.Fatal(err)
		}
		in := policy.Input{Policies: r.Policies}
		for _, p := range u.processes {
			if !governed(r.Policies, &p.Workload) {
				continue
			}
			for _, c := range u.calls {
				if d := match.Judge(in, p, c); d.Denies() == seen[ask(&p, c)] {
					t.Fatalf("seed %d: %s is %s by %s\n%s", seed, ask(&p, c), d.Verdict, d.Rule, r.YAML)
				}
			}
		}
		in.Workloads = []policy.Workload{{Key: 1, Namespace: "shop", Container: "web", Labels: map[string]string{"app": "web"}}}
		if _, err := compile.Compile(in); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// governed says whether something was learnt about a workload.
func governed(policies []*policy.Policy, w *policy.Workload) bool {
	for _, p := range policies {
		if p.Selects(w) {
			return true
		}
	}
	return false
}

func FuzzLearn(f *testing.F) {
	f.Add(line("01", labelled+`"peer":"10.0.0.1:80/TCP"`))
	f.Add(line("01", `"podLabels":"a\\nb=c","peer":"10.0.0.1:80/TCP","peerName":"a.example"`))
	f.Add(strings.Replace(line("01", `"peer":"[fe80::1%1]:80/UDP"`), "checkout-7d", `\\n# x: [`, 1))
	f.Add(strings.Replace(line("01", `"peer":"10.0.0.1:80/TCP"`), `/usr/bin/checkout"`, `/\\u202e\\x01 ' \" #: {}"`, 1))
	f.Fuzz(func(t *testing.T, text string) {
		log, err := flows.Read(strings.NewReader(text), flows.Options{})
		if err != nil {
			return
		}
		r, err := learn.Learn(log, learn.Options{Mode: policy.ModeEnforce, WidenV4: 24, WidenV6: 64})
		if err != nil {
			t.Fatalf("%v\n%q", err, text)
		}
		in := policy.Input{Policies: r.Policies}
		for _, f := range log.Flows {
			if f.Process.Origin == policy.OriginExec || f.Denied() || f.Verdict == policy.VerdictAudit || f.Call.Listen || f.Process.Truncated {
				continue
			}
			if d := match.Judge(in, f.Process, f.Call); d.Reason == policy.ReasonDefault && r.Learnt > 0 && len(r.LeftOut) == 0 {
				t.Errorf("%s is %s\n%s", f.Call, d.Verdict, r.YAML)
			}
		}
	})
}
