package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sallyport/sallyport/policy"
)

func TestParseIsBounded(t *testing.T) {
	t.Parallel()
	// Nine levels of nine aliases each: 9^9 labels if they were all followed.
	var bomb strings.Builder
	bomb.WriteString(in("{egress: []}") + "  a0: &a0 {port: 80}\n")
	for i := range 9 {
		fmt.Fprintf(&bomb, "  a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	selectors := strings.TrimSuffix(strings.Repeat("*s,", 2000), ",")
	entries := "&e {toCIDR: [" + strings.TrimSuffix(strings.Repeat("10.0.0.0/8,", 2000), ",") + "]}, " + strings.TrimSuffix(strings.Repeat("*e,", 2000), ",")
	for name, tt := range map[string]struct{ text, want string }{
		"alias bomb in unknown fields": {bomb.String(), "unknown field"},
		"wide aliases":                 {in("{egress: [" + entries + "]}"), "values, aliases followed: split it"},
		"wide selectors":               {in("{egress: [], processes: [&s {origins: [x]}, " + selectors + "]}"), "giving up after 100 errors"},
		"alias of itself":              {in("&r {egress: [{toCIDRSet: [*r]}]}"), "unknown field"},
		"unknown alias":                {in("*r"), "unknown anchor"},
		"deep nesting":                 {strings.Repeat("[", 100000), "exceeded max depth"},
		"large file":                   {in("{egress: []}") + strings.Repeat("#\n", policy.MaxFileSize/2), "more than 4194304: split it"},
		"NUL bytes":                    {in("{egress: [], name: \"a\x00\"}"), "control characters are not allowed"},
		"no UTF-8":                     {in("{egress: [], name: \xff\xfe}"), "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			policies, err := policy.Parse("f.yaml", []byte(tt.text))
			if err == nil || policies != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%.2000q does not say %q", fmt.Sprint(err), tt.want)
			}
			if len(fmt.Sprint(err)) > 1<<17 {
				t.Errorf("the errors are %d bytes long", len(err.Error()))
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("it took %s", d)
			}
		})
	}
}

func TestErrorsAreOnOneLineEach(t *testing.T) {
	t.Parallel()
	_, err := policy.Parse("evil\nname\x1b[31m.yaml", []byte(in(`{egress: [{toCIDR: ["1\nforged.yaml:1:1: all is well", "\e[2J\u202e"]}]}`)))
	var errs policy.Errors
	if !errors.As(err, &errs) || len(errs) != 2 {
		t.Fatalf("not two errors: %v", err)
	}
	for _, e := range errs {
		if strings.ContainsAny(e.Error(), "\n\x1b\u202e") {
			t.Errorf("%q can forge lines", e.Error())
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	named := func(name string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.Replace(in("{egress: []}"), "name: p", "name: "+name, 1))}
	}
	dir := fstest.MapFS{
		"a.yaml": named("a"), "b.yml": named("b"), "c.json": named("c"), "d.yaml": {Data: []byte("kind: x")}, "e.yaml": named("b"),
		".hidden.yaml": named("h"), "notes.txt": named("n"), "dir.yaml/x.yaml": named("x"), "big.yaml": {Data: make([]byte, policy.MaxFileSize+1)},
	}
	files, err := policy.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, 0, len(files))
	for _, f := range files {
		line := f.Name
		for _, p := range f.Policies {
			line += " " + p.Name()
		}
		if f.Err != nil {
			line += " " + f.Err.Error()
		}
		got = append(got, line)
	}
	want := []string{
		"a.yaml default/a",
		"b.yml default/b",
		"big.yaml big.yaml: the file has 4194305 bytes, more than 4194304: split it",
		"c.json default/c",
		"d.yaml d.yaml:1:1: apiVersion: is missing: apiVersion: sallyport.dev/v1alpha1",
		"e.yaml e.yaml:1:1: metadata.name: policy \"default/b\" is also in b.yml:1: names are unique in a namespace",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := policy.Load(fstest.MapFS{"x": {Mode: 0}}); err != nil {
		t.Errorf("a directory without policies: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(complete))
	f.Add([]byte(in("{egress: [&e {toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]}, *e]}")))
	f.Add([]byte(in("{name: a, action: Deny, processes: [{containers: ['[a-z]*'], binaries: ['memfd:*', '/**/sh']}], onViolation: {alert: info}}")))
	f.Add([]byte(`{"apiVersion": "sallyport.dev/v1alpha1", "kind": "ProcessPolicy", "metadata": {"name": "p"}, "spec": {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}, "rules": [{"ingress": []}]}}`))
	f.Add([]byte("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\nspec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}, podSelector: {}}, {ipBlock: {cidr: 10.0.0.1/8}}], ports: [{port: http}]}]}"))
	f.Add([]byte(in("{egress: [{toPorts: [{ports: [{port: 80, protocol: TCP}], serverNames: ['**.a'], rules: {http: [{method: GET, path: '/v1(/.*)?', host: '(?i)a[^b]', headers: [X-A, 'X-B: c'], headerMatches: [{name: d, value: e}]}]}}]}]}")))
	f.Add([]byte("apiVersion: v1\nkind: List\nitems: [{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: c}, specs: [{endpointSelector: {matchLabels: {'k8s:a': b}}, enableDefaultDeny: {egress: false}, egress: [{toServices: [{k8sService: {serviceName: a}}]}], ingressDeny: [{icmps: [{fields: [{type: Echo}]}]}]}]}]"))
	f.Add([]byte("apiVersion: sallyport.dev/v1alpha1\nkind: ClusterProcessPolicy\nmetadata: {name: c}\nspec: {podSelector: {}, namespaceSelector: {}, enableDefaultDeny: {ingress: true}, rules: [{action: Kill, processes: [{users: [0], scripts: [{interpreter: /a, path: /b}]}], egress: [{toEndpoints: [{matchLabels: {'any:a': b}}], toPorts: [{ports: [{port: http}, {port: 53}]}]}, {toFQDNs: [{matchPattern: '**.a.*b'}]}]}]}"))
	f.Add([]byte("a: &a [*a]\n---\n<<: *a\n"))
	f.Add([]byte("%YAML 1.2\n---\n!!map {? [a] : b}\n...\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		policies, err := policy.Parse("f.yaml", data)
		if err == nil {
			if len(policies) == 0 {
				t.Fatal("neither policies nor an error")
			}
			if !slices.ContainsFunc(policies, func(p *policy.Policy) bool { return p.APIVersion != policy.APIVersion }) {
				roundTrip(t, policies) // what others define is not written back
			}
			return
		}
		var errs policy.Errors
		if policies != nil || !errors.As(err, &errs) || len(errs) == 0 {
			t.Fatalf("%d policies and the error %v", len(policies), err)
		}
		for _, e := range errs {
			if e.Message == "" || strings.ContainsAny(e.Error(), "\n\r\x1b\x00") {
				t.Errorf("error %q", e.Error())
			}
		}
	})
}
