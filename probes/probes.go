// Package probes opens the kernel side of Sallyport: the pinned maps and links in one directory of a
// BPF file system. Its packages label, judge, gate and tell attach and read the programs, one per word
// of the pipeline; event holds the words they report in. Only packages below probes touch the kernel's
// BPF; of the rest of the module they import policy/compile alone.
package probes

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/probes/event"
	"github.com/sallyport/sallyport/probes/internal/attach"
	"github.com/sallyport/sallyport/probes/internal/bpfobj"
)

// ErrIncompatible means that the pins in the directory were made by a version whose maps mean
// something else: they stay in force until Cleanup.
var ErrIncompatible = bpfobj.ErrIncompatible

// Config says where the kernel side lives and how it behaves.
type Config struct {
	BPFFS            string   // mount point of the BPF file system
	PinDir           string   // directory below it
	CgroupRoot       string   // cgroup v2 directory that the cgroup programs are attached to
	ContainerParents []string // cgroups whose children are containers, whatever their names
	Sizes            Sizes
	UnknownDeny      bool     // unknownWorkload: deny
	BorrowRefuse     bool     // nobody acts under another's label; without BorrowTell it has no effect
	BorrowTell       bool     // such attempts are told
	FrontRefuse      bool     // who asks for another site than its connection was made for is denied; without FrontTell it has no effect
	FrontTell        bool     // such requests and ClientHellos are told
	RelayTell        bool     // that a process asks another label's over a unix socket is told
	ProtectRefuse    bool     // governed containers do not reach for the agent; without ProtectTell it has no effect
	ProtectTell      bool     // such attempts are told
	TellExec         bool     // report execs and exits
	TellConnect      bool     // report allowed calls
	TellQuery        bool     // report requests with their query
	TellHeaders      []string // report requests with these headers, by their names in lower case; at most 4
	Names            Names
	Load             bpfobj.Loader `json:"-"` // nil: the kernel verifies every program at every load
	Guard            bool          // keep handles of what is in force, for Check
}

// Names says how addresses are remembered by the names that DNS tells containers for them. Zeros mean
// the defaults.
type Names struct {
	Most     uint32        // addresses, and names, for one container; what is beyond is not known by its name
	LeastTTL time.Duration // how long an address is known at least, whatever its time to live
}

// defaultMostNames bounds the kernel's memory for one container to about 3 MB.
const defaultMostNames = 4096

// Sizes are the sizes of maps; a zero keeps the built-in size.
type Sizes struct {
	Flows      uint32 // entries
	Containers uint32 // entries
	AlertRing  uint32 // bytes
	FlowRing   uint32 // bytes
}

// Hook says what judges at one hook, for status.
type Hook struct {
	Name       string     // connect, sendmsg, …
	Step       event.Step // the rung it got
	Programs   []string
	NotStopped []string // what this step does not stop
	Refused    []string // the stronger steps that could not be had, with the kernel's reason
	Adopted    bool     // its links were found pinned and kept
}

// Kernel is the opened kernel side. Close releases it and leaves everything in force.
type Kernel struct {
	maps   *bpfobj.Maps
	pins   *attach.Pins
	cfg    Config
	ftrace atomic.Bool // see NeedFtrace
}

// Open opens the pins, or makes them. It fails with ErrIncompatible for another version's pins, and
// then changes nothing.
func Open(cfg Config) (*Kernel, error) {
	if err := checkBTF(); err != nil {
		return nil, err
	}
	if err := checkLockdown(); err != nil {
		return nil, err
	}
	if err := checkBPFFS(cfg.BPFFS); err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.BPFFS, cfg.PinDir)
	load := cfg.Load
	if load == nil {
		load = ebpf.NewCollectionWithOptions
	}
	maps, err := bpfobj.OpenMaps(dir, bpfobj.Sizes(cfg.Sizes), load)
	if err != nil {
		return nil, fmt.Errorf("opening pins in %s: %w", dir, err)
	}
	pins, err := attach.NewPins(filepath.Join(dir, "links"), cfg.Guard)
	if err != nil {
		return nil, errors.Join(err, maps.Close())
	}
	k := &Kernel{maps: maps, pins: pins, cfg: cfg}
	if err := k.configure(); err != nil {
		return nil, errors.Join(err, maps.Close())
	}
	return k, nil
}

// checkBTF makes sure that programs can be fitted to this kernel, before anything is put into it. Where the kernel shows its
// types they are not decoded yet: the first load does that.
func checkBTF() error {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err == nil {
		return nil
	}
	if _, err := btf.LoadKernelSpec(); err != nil { // which looks elsewhere, too
		return fmt.Errorf("reading the kernel's types: %w: a kernel is needed, 6.1 or newer, that was built with CONFIG_DEBUG_INFO_BTF=y and shows them in /sys/kernel/btf/vmlinux", err)
	}
	return nil
}

// checkLockdown makes sure that programs may read the kernel's memory, by which they know who acts. Where nobody can tell, loading
// fails (closed).
func checkLockdown() error {
	const path = "/sys/kernel/security/lockdown"
	if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "[confidentiality]") {
		return errors.New("the kernel is locked down for confidentiality, in which no program may read its memory: boot it with lockdown=integrity, which does not hinder Sallyport")
	}
	return nil
}

// checkBPFFS makes sure that pins will be pins.
func checkBPFFS(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("looking at BPF file system %s: %w", path, err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%[1]s is no BPF file system: mount one with: mount -t bpf bpffs %[1]s", path)
	}
	return nil
}

// configure writes the switches and the container parents.
func (k *Kernel) configure() error {
	mntns, err := hostMountNamespace()
	if err != nil {
		return err
	}
	if err := k.nameHeaders(); err != nil {
		return err
	}
	flags := uint32(0)
	for _, f := range []struct {
		on   bool
		flag bpfobj.ABIControlFlags
	}{
		{k.cfg.TellExec, bpfobj.ABIControlFlagsCONTROL_TELL_EXEC},
		{k.cfg.TellConnect, bpfobj.ABIControlFlagsCONTROL_TELL_CONNECT},
		{k.cfg.TellQuery, bpfobj.ABIControlFlagsCONTROL_TELL_QUERY},
		{len(k.cfg.TellHeaders) > 0, bpfobj.ABIControlFlagsCONTROL_TELL_HEADERS},
		{k.cfg.UnknownDeny, bpfobj.ABIControlFlagsCONTROL_UNKNOWN_DENY},
		{k.cfg.BorrowRefuse, bpfobj.ABIControlFlagsCONTROL_BORROW_REFUSE},
		{k.cfg.BorrowTell, bpfobj.ABIControlFlagsCONTROL_BORROW_TELL},
		{k.cfg.FrontRefuse, bpfobj.ABIControlFlagsCONTROL_FRONT_REFUSE},
		{k.cfg.RelayTell, bpfobj.ABIControlFlagsCONTROL_RELAY_TELL},
		{k.cfg.FrontTell, bpfobj.ABIControlFlagsCONTROL_FRONT_TELL},
		{k.cfg.ProtectRefuse, bpfobj.ABIControlFlagsCONTROL_PROTECT_REFUSE},
		{k.cfg.ProtectTell, bpfobj.ABIControlFlagsCONTROL_PROTECT_TELL},
	} {
		if f.on {
			flags |= uint32(f.flag)
		}
	}
	// The hashes of names that are pinned already are made from the seed that is pinned with them.
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return fmt.Errorf("seeding the hashes of names: %w", err)
	}
	err = k.maps.UpdateControl(func(c *bpfobj.ABIControl) {
		// The gate that is pinned goes on reading DNS, taps that are go on tying connections to sockets, and units are told of.
		flags |= c.Flags & uint32(bpfobj.ABIControlFlagsCONTROL_GATE|bpfobj.ABIControlFlagsCONTROL_TAPS|bpfobj.ABIControlFlagsCONTROL_UNITS)
		c.Abi, c.Flags, c.HostMntns = uint32(bpfobj.ABILimitsABI_VERSION), flags, mntns
		if c.Seed == 0 {
			c.Seed = binary.LittleEndian.Uint64(seed[:])
		}
		c.NamesMost = cmp.Or(k.cfg.Names.Most, defaultMostNames)
		c.TtlLeastNs = uint64(max(k.cfg.Names.LeastTTL, 0))
	})
	if err != nil {
		return err
	}
	return k.setParents()
}

func (k *Kernel) setParents() error {
	m := k.maps.Map("container_parent")
	for _, parent := range k.cfg.ContainerParents {
		var key [bpfobj.ABILimitsPARENT_LEN]byte
		if len(parent) >= len(key) {
			return fmt.Errorf("container parent %q is longer than %d bytes", parent, len(key)-1)
		}
		copy(key[:], parent)
		if err := m.Put(key, uint32(1)); err != nil {
			return fmt.Errorf("setting container parent %q: %w", parent, err)
		}
	}
	return nil
}

// hostMountNamespace is the inode of the node's mount namespace, that of PID 1: what runs there is no
// workload. Without the capability to look at PID 1 (CAP_SYS_PTRACE) it is the agent's own, which is
// the same unless the agent itself runs in a container.
func hostMountNamespace() (uint32, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/1/ns/mnt", &st)
	if errors.Is(err, os.ErrPermission) {
		err = unix.Stat("/proc/self/ns/mnt", &st)
	}
	if err != nil {
		return 0, fmt.Errorf("looking at the node's mount namespace: %w", err)
	}
	return uint32(st.Ino), nil // namespace inodes have 32 bits (struct ns_common)
}

// ForgetTypes gives back the memory that the first loads share. It comes when everything is attached; what is loaded
// later decodes the kernel's types again.
func (k *Kernel) ForgetTypes() { k.maps.ForgetTypes() }

// Fresh reports whether no policy was in force when it was opened: nothing was pinned before, or by an agent that came no
// further.
func (k *Kernel) Fresh() bool { return k.maps.Fresh() }

// CgroupRoot is the directory that cgroup programs are attached to.
func (k *Kernel) CgroupRoot() string { return k.cfg.CgroupRoot }

// Maps gives the packages below probes the shared maps.
func (k *Kernel) Maps() *bpfobj.Maps { return k.maps }

// TellsAllowed says whether calls and requests that are allowed are told.
func (k *Kernel) TellsAllowed() bool { return k.cfg.TellConnect }

// Pins gives the packages below probes the pinned links.
func (k *Kernel) Pins() *attach.Pins { return k.pins }

// GateInPlace tells the programs that those of the gate at the sockets are in place: calls that are judged
// Drop go on, for the gate drops what they send, and rules.dns count, for DNS is read there.
func (k *Kernel) GateInPlace() error {
	return k.setFlag(bpfobj.ABIControlFlagsCONTROL_GATE, true)
}

// TapsInPlace tells the programs whether there are taps on TLS libraries: sends on streams look for the object that
// encrypts what they carry, and execs are told, by whose files taps are placed.
func (k *Kernel) TapsInPlace(yes bool) error {
	return k.setFlag(bpfobj.ABIControlFlagsCONTROL_TAPS, yes)
}

// WatchUnits says whether the programs are to tell of new cgroups that are no container's (event.KindCgroup with Unit).
func (k *Kernel) WatchUnits(on bool) error {
	return k.setFlag(bpfobj.ABIControlFlagsCONTROL_UNITS, on)
}

func (k *Kernel) setFlag(flag bpfobj.ABIControlFlags, on bool) error {
	return k.maps.UpdateControl(func(c *bpfobj.ABIControl) {
		c.Flags &^= uint32(flag)
		if on {
			c.Flags |= uint32(flag)
		}
	})
}

// Revision is the revision of the tables in force; 0: none.
func (k *Kernel) Revision() (uint64, error) {
	c, err := k.maps.Control()
	return c.Revision, err
}

// Close closes the handles; programs, links and maps stay pinned and in force.
func (k *Kernel) Close() error { return errors.Join(k.pins.Close(), k.maps.Close()) }

// Cleanup removes every pin below the directory, and with them all programs, links and maps. It
// reports how many there were. A directory that is not there is no error.
func Cleanup(bpffs, pinDir string) (int, error) {
	dir := filepath.Join(bpffs, pinDir)
	count := 0
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			count++
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("listing pins in %s: %w", dir, err)
	}
	if err := removeLinks(filepath.Join(dir, "links")); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return 0, fmt.Errorf("removing pins in %s: %w", dir, err)
	}
	return count, nil
}

// removeLinks removes those whose programs deny what others have not judged, and waits until they are gone: with the others
// gone first they would deny, until it is their turn, what everybody on the node does.
func removeLinks(dir string) error {
	for _, dependent := range []string{"gate_tc_*", "judge_modret_*"} {
		paths, err := filepath.Glob(filepath.Join(dir, dependent))
		if err != nil {
			return fmt.Errorf("listing pinned links: %w", err)
		}
		for _, path := range paths {
			if err := attach.Remove(path); err != nil {
				return fmt.Errorf("removing pinned link: %w", err)
			}
		}
	}
	return nil
}
