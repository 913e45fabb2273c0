package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// inGuest reports whether this process is the init of a guest that vmrun made.
func inGuest() bool {
	if os.Getpid() != 1 {
		return false
	}
	_, err := os.Stat(guestSpecFile)
	return err == nil
}

// guest is the state of PID 1.
type guest struct {
	wire   *frameWriter
	serial *os.File
}

// guestMain is the guest's init: it sets the machine up, runs the program, reports and powers off. It never returns.
func guestMain() {
	defer powerOff()
	g, err := openWire()
	if err != nil {
		fmt.Println("vmrun: opening the wire to the host:", err) // the console, which the host shows when nothing else comes
		return
	}
	start := time.Now()
	spec := g.setup()
	g.note("setup took %v, uptime %s", time.Since(start).Round(time.Millisecond), uptime())
	watch := g.watchKernelLog()
	code := g.runProgram(spec)
	watch.stop()
	g.reportTaint()
	if err := g.wire.exit(code); err != nil {
		fmt.Println("vmrun: reporting the exit code:", err)
	}
	// TCSBRK with 1 waits until the serial port has sent everything; without it the last frame could be cut.
	if err := unix.IoctlSetInt(int(g.serial.Fd()), unix.TCSBRK, 1); err != nil {
		fmt.Println("vmrun: draining the serial port:", err)
	}
}

func powerOff() {
	for {
		if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
			fmt.Println("vmrun: powering off:", err)
		}
		time.Sleep(time.Second)
	}
}

// openWire makes / a mount that pivot_root can replace, mounts /dev and opens the second serial port in raw mode.
func openWire() (*guest, error) {
	if err := leaveRootfs(); err != nil {
		return nil, fmt.Errorf("leaving the rootfs: %w", err)
	}
	if err := unix.Mount("dev", "/dev", "devtmpfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mounting /dev: %w", err)
	}
	fd, err := unix.Open("/dev/ttyS1", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening ttyS1: %w", err)
	}
	term := &unix.Termios{Cflag: unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200}
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, term); err != nil {
		return nil, fmt.Errorf("setting ttyS1 raw: %w", err)
	}
	serial := os.NewFile(uintptr(fd), "ttyS1")
	g := &guest{wire: &frameWriter{w: serial}, serial: serial}
	return g, g.wire.begin()
}

// leaveRootfs puts a bind mount of the initramfs over itself. The kernel's rootfs cannot be pivoted away from, so that
// without this no container runtime could start a container in the guest.
func leaveRootfs() error {
	if err := unix.Mount("/", "/", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Chdir("/.."); err != nil { // ".." of the root steps onto the mount on top of it
		return err
	}
	return unix.Chroot(".")
}

// setup mounts the usual file systems, inserts the modules and brings the loopback up. What does not work is noted and
// passed over: the test that needs it says so better.
func (g *guest) setup() guestSpec {
	for _, m := range []struct{ fstype, at string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"tmpfs", "/tmp"},
		{"tmpfs", "/run"},
		{"devpts", "/dev/pts"},
		{"tmpfs", "/dev/shm"},
		{"mqueue", "/dev/mqueue"},
		{"cgroup2", "/sys/fs/cgroup"},
		{"bpf", "/sys/fs/bpf"},
		{"securityfs", "/sys/kernel/security"},
		{"debugfs", "/sys/kernel/debug"},
		{"tracefs", "/sys/kernel/tracing"},
	} {
		g.mount(m.fstype, m.at, m.fstype)
	}
	if err := os.Symlink("/proc/self/fd", "/dev/fd"); err != nil {
		g.note("linking /dev/fd: %v", err)
	}
	var spec guestSpec
	data, err := os.ReadFile(guestSpecFile)
	if err == nil {
		err = json.Unmarshal(data, &spec)
	}
	if err != nil {
		g.note("reading the instructions: %v", err)
	}
	for _, m := range spec.Modules {
		if err := insertModule(m); err != nil {
			g.note("inserting %s: %v", path.Base(m), err)
		}
	}
	if err := loopbackUp(); err != nil {
		g.note("bringing lo up: %v", err)
	}
	if spec.Share {
		g.mount(shareTag, guestShare, "virtiofs")
	}
	// Go raises the soft limit of its children to the hard one: container runtimes want more than the kernel's 4096.
	limit := &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, limit); err != nil {
		g.note("raising the limit of open files: %v", err)
	}
	return spec
}

func (g *guest) mount(source, at, fstype string) {
	if err := os.MkdirAll(at, 0o755); err != nil {
		g.note("making %s: %v", at, err)
		return
	}
	if err := unix.Mount(source, at, fstype, 0, ""); err != nil {
		g.note("mounting %s: %v", at, err)
	}
}

func insertModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }() // nothing was written
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
}

// note tells the host something that only -v shows.
func (g *guest) note(format string, args ...any) {
	if err := g.wire.send(frameNote, fmt.Appendf(nil, format, args...)); err != nil {
		fmt.Println("vmrun:", err)
	}
}

// uptime is the guest's own, in seconds: what the boot took.
func uptime() string {
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err.Error()
	}
	seconds, _, _ := strings.Cut(string(data), " ")
	return seconds
}
