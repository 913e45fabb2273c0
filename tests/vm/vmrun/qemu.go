package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// kernelParameters: say little, panic at once (QEMU then ends), no mitigations, which cost much under emulation, and
// none of the clock checks that a busy host makes fail. Warnings (loglevel 5 shows them) go to the console as well.
const kernelParameters = "console=ttyS0 panic=-1 quiet loglevel=5 nokaslr mitigations=off cryptomgr.notests " +
	"random.trust_cpu=on audit=0 tsc=reliable no_timer_check rcupdate.rcu_expedited=1"

// processor is the one with everything, but for what costs much under emulation and changes nothing for who behaves: page tables
// of a fifth level, and checks of what the kernel and user space may touch of each other. The kernel leaves out what serves them.
const processor = "max,la57=off,smap=off,smep=off,umip=off,pku=off"

// consoleTail is how many lines of the console are shown when the guest was lost.
const consoleTail = 60

// machine is one guest, from its image to its end.
type machine struct {
	opts    options
	kernel  *kernel
	dir     string // for the files of this run
	initrd  string
	console string
	began   time.Time
}

// newMachine prepares a guest; its image is written to dir.
func newMachine(o options, k *kernel, dir string) (*machine, error) {
	m := &machine{opts: o, kernel: k, dir: dir, initrd: filepath.Join(dir, "initrd"), console: o.console, began: time.Now()}
	if m.console == "" {
		m.console = filepath.Join(dir, "console")
	}
	return m, writeImage(m.initrd, o, k)
}

// run boots the guest, passes its output on and returns the exit code of the whole run.
func (m *machine) run(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, m.opts.timeout)
	defer cancel()
	args := m.qemuArgs()
	if m.opts.share != "" {
		socket := filepath.Join(m.dir, "virtiofs")
		stop, err := m.startShare(ctx, socket)
		if err != nil {
			return complain(err)
		}
		defer stop()
		args = append(args, shareArgs(socket, m.opts.memory)...)
	}
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	qemu.Stderr = os.Stderr
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	input, err := qemu.StdinPipe() // held open and silent: the guest's end of the wire is never hung up
	if err != nil {
		return complain(err)
	}
	defer func() { _ = input.Close() }() // nothing was written
	wire, err := qemu.StdoutPipe()
	if err != nil {
		return complain(err)
	}
	started := time.Now()
	if err := qemu.Start(); err != nil {
		return complain(fmt.Errorf("starting QEMU: %w", err))
	}
	var s session
	readErr := s.read(frameReader{bufio.NewReaderSize(wire, frameLimit)}, m.opts.verbose)
	waitErr := qemu.Wait()
	if m.opts.verbose {
		fmt.Fprintf(os.Stderr, "vmrun: preparing %v, boot %v, run %v, all %v\n", short(started.Sub(m.began)),
			short(s.up.Sub(started)), short(time.Since(s.up)), short(time.Since(m.began)))
	}
	return m.verdict(ctx, &s, errors.Join(readErr, waitErr))
}

func short(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// session is what came over the wire.
type session struct {
	up     time.Time // when the guest's init spoke first
	ended  bool      // an exit code came
	code   int
	log    kernelLog
	faults []string // found by the guest other than by its log
}

// read passes the program's output on and keeps the rest, until the guest is gone.
func (s *session) read(r frameReader, verbose bool) error {
	if err := r.sync(); err != nil {
		return err
	}
	s.up = time.Now()
	for {
		kind, payload, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch kind {
		case frameStdout:
			_, err = os.Stdout.Write(payload)
		case frameStderr:
			_, err = os.Stderr.Write(payload)
		case frameKernel:
			s.log.add(string(payload))
		case frameFault:
			s.faults = append(s.faults, string(payload))
		case frameNote:
			if verbose {
				fmt.Fprintf(os.Stderr, "vmrun: guest: %s\n", payload)
			}
		case frameExit:
			s.code, err = exitCode(payload)
			s.ended = err == nil
		}
		if err != nil {
			return fmt.Errorf("passing on what the guest said: %w", err)
		}
	}
}

// lostPatch is on the console when QEMU's TCG with several threads shows a CPU the breakpoint of a text patch that the
// kernel has already finished (text_poke): it happens at boot too, with nothing of ours in the guest.
const lostPatch = "Oops: int3"

// verdict turns a session into an exit code and says on standard error what was wrong. A kernel fault weighs more than
// the program's own success, and less than its failure.
func (m *machine) verdict(ctx context.Context, s *session, err error) int {
	if m.opts.kmsg {
		printLines("the guest kernel's warnings", s.log.lines)
	}
	faults := slices.Concat(s.faults, s.log.faults)
	if len(faults) > 0 {
		printLines("FAULT in the guest's kernel", faults)
	}
	switch {
	case s.ended && len(faults) > 0 && s.code == 0:
		return exitFault
	case s.ended:
		return s.code
	}
	fmt.Fprintln(os.Stderr, "vmrun: the guest ended without an exit code:", err)
	lines := m.consoleLines()
	tail := lines[max(0, len(lines)-consoleTail):]
	printLines("end of the guest's console", tail)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		fmt.Fprintf(os.Stderr, "vmrun: the run took longer than %v\n", m.opts.timeout)
		return exitTimeout
	case strings.Contains(strings.Join(lines, "\n"), lostPatch): // with a second trace behind it, as of a timer, it is not in the tail
		return exitEmulator
	case len(faults) > 0 || faultPattern.MatchString(strings.Join(tail, "\n")):
		return exitFault
	}
	return exitLaunch
}

func printLines(title string, lines []string) {
	fmt.Fprintf(os.Stderr, "--- vmrun: %s\n%s\n---\n", title, strings.Join(lines, "\n"))
}

func (m *machine) consoleLines() []string {
	data, err := os.ReadFile(m.console)
	if err != nil {
		return []string{err.Error()}
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// qemuArgs describes the machine: emulated (stock kernels do not run under every /dev/kvm), two serial ports, nothing
// else. The first port is the console, the second, on standard output, the wire.
func (m *machine) qemuArgs() []string {
	parameters := kernelParameters
	if m.opts.lsm != "" {
		parameters += " lsm=" + m.opts.lsm
	}
	if m.opts.append != "" {
		parameters += " " + m.opts.append
	}
	accelerator, clock := "tcg,thread=multi", []string(nil)
	if m.opts.turns || m.opts.icount { // QEMU counts on one thread only
		accelerator = "tcg,thread=single"
	}
	if m.opts.icount {
		// One nanosecond an instruction, and no waiting where the guest is idle.
		clock = []string{"-icount", "shift=0,sleep=off"}
	} else if khz := tscKHz(); khz != 0 {
		parameters += fmt.Sprintf(" tsc_early_khz=%d", khz)
	}
	return append([]string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", accelerator, "-cpu", processor,
		"-smp", strconv.Itoa(m.opts.cpus), "-m", strconv.Itoa(m.opts.memory),
		"-kernel", m.kernel.image, "-initrd", m.initrd, "-append", parameters,
		"-serial", "file:" + m.console, "-serial", "stdio",
	}, clock...)
}

// shareArgs adds the virtiofs device, which needs the guest's memory to be shared with the daemon.
func shareArgs(socket string, memory int) []string {
	return []string{
		"-object", "memory-backend-memfd,id=mem,share=on,size=" + strconv.Itoa(memory) + "M", "-numa", "node,memdev=mem",
		"-chardev", "socket,id=share,path=" + socket, "-device", "vhost-user-fs-pci,chardev=share,tag=" + shareTag,
	}
}

// virtiofsd is where Debian's qemu-system-common puts it.
const virtiofsd = "/usr/lib/qemu/virtiofsd"

// startShare starts the daemon that serves the shared directory and waits for its socket. The caller calls stop.
func (m *machine) startShare(ctx context.Context, socket string) (stop func(), err error) {
	dir, err := filepath.Abs(m.opts.share)
	if err != nil {
		return nil, fmt.Errorf("sharing %s: %w", m.opts.share, err)
	}
	daemon := exec.CommandContext(ctx, virtiofsd, "--socket-path="+socket, "-o", "source="+dir, "-o", "cache=always", "-o", "sandbox=chroot")
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := daemon.Start(); err != nil {
		return nil, fmt.Errorf("starting virtiofsd: %w", err)
	}
	stop = func() {
		_ = daemon.Process.Kill() // it may have ended with QEMU
		_ = daemon.Wait()         // its exit code says nothing then
	}
	for range 500 {
		if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
			return stop, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return nil, errors.New("starting virtiofsd: its socket did not appear within 5 s")
}
