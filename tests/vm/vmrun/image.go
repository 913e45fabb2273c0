package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// Paths in the guest.
const (
	guestSpecFile  = "/vmrun.json"
	guestDir       = "/test" // working directory of the program
	guestModules   = "/modules"
	guestShare     = "/host"
	shareTag       = "host0" // virtiofs tag of the share
	busybox        = "/bin/busybox"
	busyboxApplets = "sh ls cat cp dmesg echo env grep head id ip kill lsmod mkdir mount nc ps rm sleep tail true umount wget"
)

// guestSpec is what the host tells the guest's init, as JSON in guestSpecFile.
type guestSpec struct {
	Args    []string // the program and its arguments
	Env     []string // its environment, complete
	Modules []string // paths in the order of insertion
	Share   bool     // mount shareTag at guestShare
}

// writeImage writes the initramfs for one run to the file at dst: vmrun itself as /init, modules, the program, its
// testdata, and what the options ask for.
func writeImage(dst string, o options, k *kernel) error {
	out, err := os.Create(dst)
	if err != nil {
		return fmt.Errorf("writing the initramfs: %w", err)
	}
	defer func() { _ = out.Close() }() // the error that matters is that of the flush in archive.close
	a := newArchive(out)
	for _, d := range []string{"/bin", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/tmp", "/var/tmp", guestDir, guestShare, guestModules} {
		a.dir(d)
	}
	a.charDevice("/dev/console", device{5, 1}) // where the kernel points init's standard streams
	a.file("/etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"))
	a.file("/etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	a.file("/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	steps := []func() error{
		func() error { return addInit(a) },
		func() error { return addBusybox(a) },
		func() error { return addSpec(a, o, k) },
		func() error { return addProgram(a, o) },
	}
	for _, f := range o.files {
		steps = append(steps, func() error { return a.tree(f.src, f.dst) })
	}
	for _, f := range o.dynamic {
		steps = append(steps, func() error { return addDynamic(a, f) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return a.close()
}

func addInit(a *archive) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding vmrun's own file: %w", err)
	}
	data, err := readStatic(self)
	if err != nil {
		return err
	}
	a.file("/init", 0o755, data)
	return nil
}

// addBusybox gives the guest a shell where the host has a static busybox. The harness itself needs none.
func addBusybox(a *archive) error {
	data, err := readStatic(busybox)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDynamic) {
		return nil
	}
	if err != nil {
		return err
	}
	a.file(busybox, 0o755, data)
	for applet := range strings.FieldsSeq(busyboxApplets) {
		a.symlink("/bin/"+applet, busybox)
	}
	return nil
}

// addSpec adds the modules and the description of the run.
func addSpec(a *archive, o options, k *kernel) error {
	wanted := o.modules
	if o.share != "" {
		wanted = append([]string{"virtio_pci", "virtiofs"}, wanted...)
	}
	modules, err := k.resolve(wanted)
	if err != nil {
		return err
	}
	spec := guestSpec{
		Args: append([]string{path.Join(guestDir, filepath.Base(o.program))}, o.args...),
		Env: append([]string{
			"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "VMRUN=1",
			"VMRUN_RELEASE=" + k.release,
		}, o.env...),
		Share: o.share != "",
	}
	for i, m := range modules {
		p := fmt.Sprintf("%s/%02d-%s.ko", guestModules, i, m.name)
		a.file(p, 0o644, m.data)
		spec.Modules = append(spec.Modules, p)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encoding the guest's instructions: %w", err)
	}
	a.file(guestSpecFile, 0o644, data)
	return nil
}

// addProgram adds the program and, as go test leaves the working directory at the package, the package's testdata.
func addProgram(a *archive, o options) error {
	data, err := readStatic(o.program)
	if err != nil {
		return err
	}
	a.file(path.Join(guestDir, filepath.Base(o.program)), 0o755, data)
	if info, err := os.Stat("testdata"); err != nil || !info.IsDir() {
		return nil //nolint:nilerr // most packages have none
	}
	return a.tree("testdata", path.Join(guestDir, "testdata"))
}

var errDynamic = errors.New("it needs shared libraries; build it with CGO_ENABLED=0 or -static, or copy them with -dyn")

// readStatic reads an executable that runs without any other file.
func readStatic(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading a program for the guest: %w", err)
	}
	parsed, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	for _, p := range parsed.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("running %s in the guest: %w", file, errDynamic)
		}
	}
	return data, nil
}

// addDynamic adds a program with its ELF interpreter and the libraries that ldd names, at the host's paths.
func addDynamic(a *archive, c copySpec) error {
	data, err := os.ReadFile(c.src)
	if err != nil {
		return fmt.Errorf("reading a program for the guest: %w", err)
	}
	a.file(c.dst, 0o755, data)
	list, err := exec.Command("ldd", c.src).Output()
	if err != nil {
		return fmt.Errorf("listing the libraries of %s: %w", c.src, err)
	}
	for field := range strings.FieldsSeq(string(list)) {
		if !strings.HasPrefix(field, "/") || a.seen[guestPath(field)] {
			continue
		}
		library, err := os.ReadFile(field)
		if err != nil {
			return fmt.Errorf("reading a library of %s: %w", c.src, err)
		}
		a.file(field, 0o755, library)
	}
	return nil
}
