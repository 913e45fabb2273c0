package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// defaultModules is what the tests of this project need beyond what the kernels have built in. A name ending in "?"
// is left out where the kernel has no such module. Nothing is loaded on demand in the guest: there is no modprobe.
const defaultModules = "tls,veth,sch_ingress,sch_tbf,cls_bpf,dummy?,netkit?,aesni_intel?,gcm?,ghash_generic?,chacha_generic?,chacha?,poly1305_generic?,chacha20poly1305?,overlay,af_packet?," +
	"tun?,inet_diag?,tcp_diag?,udp_diag?,8021q?,sctp?,vsock?,vsock_loopback?"

const (
	defaultTimeout = 5 * time.Minute
	bootAllowance  = time.Minute // added to the program's own -test.timeout, so that it reports first
)

// options is what the command line asks for.
type options struct {
	kernel  string        // directory made by dpkg -x of a linux-image package
	modules []string      // in the order wanted, before dependencies
	lsm     string        // value of lsm=, "" for the kernel's own
	append  string        // more kernel command line
	memory  int           // MiB
	cpus    int           //
	turns   bool          // the guest's processors take turns on one thread
	icount  bool          // the guest's time is the instructions it executes
	timeout time.Duration // from the start of QEMU
	share   string        // host directory to mount at /host, or ""
	console string        // file that keeps the guest's console, or ""
	kmsg    bool          // print the guest kernel's warnings though none is a fault
	verbose bool          // print the times taken and the guest's notes
	env     []string      // KEY=VALUE for the program
	files   []copySpec    // copied as they are
	dynamic []copySpec    // programs copied with the shared libraries they need
	program string        // static executable on the host
	args    []string      // its arguments
}

// copySpec names a file or directory of the host and the path it gets in the guest.
type copySpec struct{ src, dst string }

// parseOptions reads the command line and the environment. The flag package's own messages go to errs.
func parseOptions(args []string, errs io.Writer) (options, error) {
	var o options
	var modules string
	fs := flag.NewFlagSet("vmrun", flag.ContinueOnError)
	fs.SetOutput(errs)
	fs.Usage = func() {
		fmt.Fprintln(errs, "usage: vmrun -kernel DIR [flags] program [args]")
		fs.PrintDefaults()
	}
	fs.StringVar(&o.kernel, "kernel", os.Getenv("VMRUN_KERNEL"), "`DIR` made by dpkg -x of a linux-image package (default $VMRUN_KERNEL)")
	fs.StringVar(&modules, "modules", defaultModules, "comma-separated modules to insert; name? is optional, a leading + adds to the default")
	fs.StringVar(&o.lsm, "lsm", "", "the kernel's lsm= parameter")
	fs.StringVar(&o.append, "append", "", "more kernel parameters")
	fs.IntVar(&o.memory, "m", 1024, "memory in `MiB`")
	fs.IntVar(&o.cpus, "smp", 2, "processors")
	fs.BoolVar(&o.turns, "turns", false, "let the guest's processors take turns on one thread: surer where programs are attached and detached again and again, and cheaper on a busy host")
	fs.BoolVar(&o.icount, "icount", false, "let the guest's time be the instructions it executes, whatever else the host does (slower)")
	fs.DurationVar(&o.timeout, "timeout", 0, "time for the whole run (default: the program's -test.timeout and a minute, or 5m)")
	fs.StringVar(&o.share, "share", "", "host `DIR` mounted at /host through virtiofs (needs root)")
	fs.StringVar(&o.console, "console", "", "keep the guest's console in `FILE`")
	fs.BoolVar(&o.kmsg, "kmsg", false, "print the guest kernel's warnings")
	fs.BoolVar(&o.verbose, "v", false, "print times and the guest's notes")
	fs.Func("env", "`KEY=VALUE` for the program, may be repeated", func(s string) error {
		if !strings.Contains(s, "=") {
			return errors.New("want KEY=VALUE")
		}
		o.env = append(o.env, s)
		return nil
	})
	fs.Func("f", "`src[:dst]` file or directory to copy into the guest, may be repeated", copyFlag(&o.files))
	fs.Func("dyn", "`src[:dst]` program to copy with its shared libraries, may be repeated", copyFlag(&o.dynamic))
	if err := fs.Parse(args); err != nil {
		return options{}, fmt.Errorf("reading the command line: %w", err)
	}
	if o.kernel == "" || fs.NArg() == 0 {
		fs.Usage()
		return options{}, errors.New("reading the command line: -kernel and a program are needed")
	}
	if rest, more := strings.CutPrefix(modules, "+"); more {
		modules = defaultModules + "," + rest
	}
	o.modules = strings.Split(modules, ",")
	o.program, o.args = fs.Arg(0), fs.Args()[1:]
	o.env = append(passedOn(os.Environ()), o.env...)
	return o, o.checkProgramArgs()
}

// copyFlag collects src[:dst] values; without dst the path in the guest is that of the host.
func copyFlag(to *[]copySpec) func(string) error {
	return func(s string) error {
		src, dst, ok := strings.Cut(s, ":")
		if !ok {
			dst = src
		}
		if !strings.HasPrefix(dst, "/") {
			return fmt.Errorf("path in the guest %q is not absolute", dst)
		}
		*to = append(*to, copySpec{src, dst})
		return nil
	}
}

// passedOn picks the variables of the host that the program in the guest sees too.
func passedOn(environ []string) []string {
	prefixes := []string{"VMT_", "GO", "SALLYPORT_", "REQUIRE_PRIVILEGED=", "ALLOW_UNSUPPORTED="}
	var kept []string
	for _, kv := range environ {
		match := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(kv, p) })
		if match && !strings.HasPrefix(kv, "GOCOVERDIR=") { // a directory the guest does not have
			kept = append(kept, kv)
		}
	}
	return kept
}

// checkProgramArgs refuses test flags that make the program write files on the host, which it cannot reach, and takes
// the time limit from -test.timeout where none was given.
func (o *options) checkProgramArgs() error {
	hostFiles := []string{"blockprofile", "coverprofile", "cpuprofile", "gocoverdir", "memprofile", "mutexprofile", "outputdir", "trace"}
	limit := defaultTimeout
	for _, arg := range o.args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "-test."), "=")
		if name == arg {
			continue
		}
		if slices.Contains(hostFiles, name) {
			return fmt.Errorf("reading the program's arguments: %s names a file of the host, which the guest cannot write (see -share)", arg)
		}
		if d, err := time.ParseDuration(value); name == "timeout" && err == nil && d > 0 {
			limit = d + bootAllowance
		}
	}
	if o.timeout == 0 {
		o.timeout = limit
	}
	return nil
}
