package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCommandLineIsRead(t *testing.T) {
	t.Setenv("VMT_X", "1")
	t.Setenv("SALLYPORT_VICTIM", "/victim")
	t.Setenv("GOCOVERDIR", "/nowhere")
	t.Setenv("HOSTSECRET", "x")
	o, err := parseOptions([]string{
		"-kernel", "/k", "-modules", "+extra", "-f", "a:/b", "-f", "/c", "-dyn", "/bin/x:/bin/y",
		"-env", "VMT_Y=2", "-m", "512", "prog", "-test.v=true", "-test.timeout=90s", "-kernel",
	}, io.Discard)
	must(t, err)
	if o.kernel != "/k" || o.memory != 512 || o.program != "prog" || !cmp.Equal(o.args, []string{"-test.v=true", "-test.timeout=90s", "-kernel"}) {
		t.Errorf("options are %+v", o)
	}
	if want := 90*time.Second + bootAllowance; o.timeout != want {
		t.Errorf("timeout is %v, want %v", o.timeout, want)
	}
	if o.modules[0] != "tls" || o.modules[len(o.modules)-1] != "extra" {
		t.Errorf("modules are %q", o.modules)
	}
	if !cmp.Equal(o.files, []copySpec{{"a", "/b"}, {"/c", "/c"}}, cmp.AllowUnexported(copySpec{})) ||
		!cmp.Equal(o.dynamic, []copySpec{{"/bin/x", "/bin/y"}}, cmp.AllowUnexported(copySpec{})) {
		t.Errorf("copies are %v and %v", o.files, o.dynamic)
	}
	env := "\n" + strings.Join(o.env, "\n") + "\n"
	for variable, want := range map[string]bool{
		"VMT_X=1": true, "VMT_Y=2": true, "SALLYPORT_VICTIM=/victim": true, "GOCOVERDIR=/nowhere": false, "HOSTSECRET=x": false,
	} {
		if strings.Contains(env, "\n"+variable+"\n") != want {
			t.Errorf("environment of the program has %s: %v, want %v", variable, !want, want)
		}
	}
}

func TestWrongCommandLineIsRefused(t *testing.T) {
	t.Setenv("VMRUN_KERNEL", "")
	for _, args := range [][]string{
		{},
		{"prog"},
		{"-kernel", "/k"},
		{"-kernel", "/k", "-f", "a:relative", "prog"},
		{"-kernel", "/k", "-env", "novalue", "prog"},
		{"-kernel", "/k", "-unknown", "prog"},
		{"-kernel", "/k", "prog", "-test.coverprofile=/tmp/c.out"},
	} {
		if _, err := parseOptions(args, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

func TestTimeoutWithoutOneOfTheProgram(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]time.Duration{
		"prog": defaultTimeout, "prog -test.timeout=0": defaultTimeout, "-timeout 7s prog -test.timeout=1h": 7 * time.Second,
	} {
		o, err := parseOptions(append([]string{"-kernel", "/k"}, strings.Fields(args)...), io.Discard)
		must(t, err)
		if o.timeout != want {
			t.Errorf("%s: timeout is %v, want %v", args, o.timeout, want)
		}
	}
}
