package flows_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/policy/flows"
)

const seen = `{"time":"2026-11-01T10:00:02Z","kind":"connect","workload":"shop/checkout-7d9f8b6c5d-x2x4z","container":"checkout","origin":"Main","binary":"/usr/bin/checkout","call":"connect","peer":"203.0.113.9:443/TCP","peerName":"Api.Payments.example.","verdict":"Allow","reason":"ungoverned","namespace":"shop","pod":"checkout-7d9f8b6c5d-x2x4z"}
{"time":"2026-11-01T09:00:02.5+01:00","kind":"connect","container":"checkout","origin":"Main","binary":"/usr/bin/checkout","call":"connect","peer":"203.0.113.9:443/TCP","peerName":"api.payments.example","verdict":"Allow","namespace":"shop","pod":"checkout-7d9f8b6c5d-bbbbb"}
{"time":"2026-11-01T10:00:03Z","kind":"flow","container":"checkout","origin":"Main","binary":"/opt/pay.py","interpreter":"/usr/bin/python3","call":"packet-in","peer":"10.0.0.7:55000/TCP","local":"10.0.0.1:8080/TCP","namespace":"shop","pod":"checkout-7d9f8b6c5d-bbbbb","podLabels":"app=checkout,tier=web","verdict":"Audit","would":"Deny","rule":"shop/a/b"}

{"time":"2026-11-01T10:00:04Z","kind":"listen","container":"db","origin":"Exec","binary":"/bin/\\xff\\u202e\\\\x","call":"bind","local":"[::]:5432/UDP","namespace":"shop","pod":"db-0","verdict":"Deny","binaryCut":true}
{"time":"2026-11-01T10:00:04Z","kind":"connect","container":"db","origin":"Unknown","binary":"/bin/ping","call":"sendmsg","peer":"[2001:db8::1]/ICMPv6","peerName":"2001:db8::1","namespace":"shop","pod":"db-0","verdict":"Allow"}
{"time":"2026-11-01T10:00:05Z","kind":"connect","workload":"/system.slice/nginx.service","container":"nginx.service","containerID":"/system.slice/nginx.service","containerType":"Unit","origin":"Main","binary":"/usr/sbin/nginx","call":"connect","peer":"10.0.0.9:8080/TCP","verdict":"Allow"}
{"time":"2026-11-01T10:00:06Z","kind":"connect","workload":"/system.slice/nginx.service","container":"nginx.service","containerID":"/system.slice/nginx.service","containerType":"Unit","origin":"Main","binary":"/usr/sbin/nginx","call":"connect","peer":"10.0.0.9:8080/TCP","verdict":"Allow"}
{"time":"2026-11-01T10:00:06Z","kind":"connect","containerID":"/batch","containerType":"Unit","origin":"Main","binary":"/usr/bin/job","call":"connect","peer":"10.0.0.9:8080/TCP","verdict":"Allow"}
{"kind":"connect","peer":"192.0.2.1:1/TCP","container":"x.service","containerType":"Unit","origin":"Main"}
{"kind":"exec","namespace":"shop"}
{"kind":"lost","lost":7,"site":"flows"}
{"kind":"socket","namespace":"shop","container":"db","family":"packet"}
{"kind":"connect","peer":"192.0.2.1:1/TCP","container":"db"}
{"kind":"connect","peer":"192.0.2.1:1","container":"db","namespace":"shop"}
{"kind":"connect","peer":"192.0.2.1:1/TCP","container":"db","namespace":"shop","origin":"7"}
{"kind":"connect","peer":"192.0.2.1:1/TCP","container":"db","namespace":"shop","origin":"Main","verdict":"Maybe"}
{"kind":"connect","peer":"192.0.2.1:1/TCP","container":"db","namespace":"shop","origin":"Main","binary":"/cut\\..."}
{"kind":"conn`

func TestRead(t *testing.T) {
	t.Parallel()
	labels, err := flows.ParsePodLabels("shop/db-*:app=db")
	if err != nil {
		t.Fatal(err)
	}
	log, err := flows.Read(strings.NewReader(seen), flows.Options{Labels: []flows.PodLabels{labels}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range log.Flows {
		p := f.Process
		where := p.Workload.Namespace + "/" + p.Workload.Pod + "/" + p.Workload.Container
		if h := p.Workload.Host; h != nil {
			where += fmt.Sprintf("%q %q", h.Unit, h.Cgroup)
		}
		got = append(got, fmt.Sprintf("%s [%s] %s %q %q cut=%v | %s %s %q | %s %s %s | %d %s %s", where,
			flows.LabelText(p.Workload.Labels), p.Origin, p.Exe, p.Script, p.Truncated, f.Call.Direction, f.Call, f.PeerName, f.Verdict, f.Would, f.Rule,
			f.Count, f.First.Format(time.TimeOnly), f.Last.Format(time.TimeOnly)))
	}
	want := []string{
		`//"" "/batch" [] Main "/usr/bin/job" "" cut=false | egress 10.0.0.9:8080/TCP "" | Allow   | 1 10:00:06 10:00:06`,
		`//"nginx.service" "/system.slice/nginx.service" [] Main "/usr/sbin/nginx" "" cut=false | egress 10.0.0.9:8080/TCP "" | Allow   | 2 10:00:05 10:00:06`,
		`shop/checkout/checkout [] Main "/usr/bin/checkout" "" cut=false | egress 203.0.113.9:443/TCP "api.payments.example" | Allow   | 2 08:00:02 10:00:02`,
		`shop/checkout/checkout [app=checkout,tier=web] Main "/usr/bin/python3" "/opt/pay.py" cut=false | ingress 10.0.0.7:8080/TCP "" | Audit Deny shop/a/b | 1 10:00:03 10:00:03`,
		`shop/db/db [app=db] Exec "/bin/\xff\u202e\\x" "" cut=true | ingress 5432/UDP "" | Deny   | 1 10:00:04 10:00:04`,
		`shop/db/db [app=db] Unknown "/bin/ping" "" cut=false | egress [2001:db8::1]/ICMPv6 "" | Allow   | 1 10:00:04 10:00:04`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	skipped := map[string]int{
		"the line is no JSON": 2, "the event is about no call": 2, "the call has no address": 1, "the workload is not known": 2,
		"the protocol cannot be told": 1, "the origin is unknown to this version": 1, "the verdict is unknown to this version": 1,
	}
	if diff := cmp.Diff(skipped, log.Skipped); diff != "" || log.Lost != 7 || log.Events != 8 {
		t.Errorf("%d events, %d lost, skipped (-want +got)\n%s", log.Events, log.Lost, diff)
	}
}

func TestReadIsBounded(t *testing.T) {
	t.Parallel()
	long := `{"kind":"` + strings.Repeat("x", 3<<20) + "\"}\n"
	log, err := flows.Read(strings.NewReader(long+strings.Split(seen, "\n")[0]+"\n"+long), flows.Options{})
	if err != nil || len(log.Flows) != 1 || log.Skipped["the line is too long"] != 2 {
		t.Errorf("%d flows, %v, %v", len(log.Flows), log.Skipped, err)
	}
	if _, err := flows.Read(strings.NewReader("no\nevents\n"), flows.Options{}); err == nil || !strings.Contains(err.Error(), "none of the lines is one") {
		t.Errorf("a file of something else: %v", err)
	}
	if log, err := flows.Read(strings.NewReader(""), flows.Options{}); err != nil || len(log.Flows) != 0 {
		t.Errorf("an empty file: %v, %v", log, err)
	}
	var many strings.Builder
	for i := range 1<<17 + 1 {
		fmt.Fprintf(&many, `{"kind":"connect","peer":"10.%d.%d.%d:1/TCP","container":"c","namespace":"n","origin":"Main"}`+"\n", i>>16, i>>8&0xff, i&0xff)
	}
	if _, err := flows.Read(strings.NewReader(many.String()), flows.Options{}); !errors.Is(err, flows.ErrTooMany) {
		t.Errorf("too many flows: %v", err)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	for pod, want := range map[string]string{
		"checkout-7d9f8b6c5d-x2x4z": "checkout", "node-exporter-x2x4z": "node-exporter", "db-0": "db", "db-12": "db", "web": "web",
		"my-apple": "my-apple", "job-28391230-x2x4z": "job-28391230", "a-b-c": "a-b-c", "-0": "-0", "": "", "x-": "x-",
	} {
		if got := flows.Owner(pod); got != want {
			t.Errorf("%s: %s, not %s", pod, got, want)
		}
	}
}

func TestParsePodLabels(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a=b", "shop:a=b", "shop/x:", "shop/x:a", "shop/[:a=b", "a/b/c:a=b", "shop/x:=b"} {
		if _, err := flows.ParsePodLabels(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(seen)
	for line := range strings.Lines(seen) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		log, err := flows.Read(strings.NewReader(text), flows.Options{})
		if err != nil {
			return
		}
		var count uint64
		for _, f := range log.Flows {
			count += f.Count
			if f.Call.Peer.IsValid() == f.Call.Listen || f.First.After(f.Last) || (f.Process.Workload.Namespace == "") != (f.Process.Workload.Host != nil) {
				t.Errorf("%+v", f)
			}
		}
		if count != uint64(log.Events) {
			t.Errorf("%d events in %d flows that count %d", log.Events, len(log.Flows), count)
		}
	})
}
