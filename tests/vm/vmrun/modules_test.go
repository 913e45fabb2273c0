package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeKernel makes an unpacked package with modules whose .modinfo is given, and some that are built in.
func writeKernel(t *testing.T, modinfo map[string][]string, builtin ...string) *kernel {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "lib/modules/6.1.0-test")
	must(t, os.MkdirAll(filepath.Join(root, "kernel/net"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "boot"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "boot/vmlinuz-6.1.0-test"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(root, "modules.builtin"), []byte("kernel/"+strings.Join(builtin, ".ko\nkernel/")+".ko\n"), 0o644))
	for name, info := range modinfo {
		must(t, os.WriteFile(filepath.Join(root, "kernel/net", name+".ko"), moduleFile(info), 0o644))
	}
	k, err := openKernel(dir)
	must(t, err)
	return k
}

// moduleFile is the smallest ELF relocatable that has a .modinfo section.
func moduleFile(info []string) []byte {
	const headerSize, sectionSize = 64, 64
	data := strings.Join(info, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err) // a bytes.Buffer takes everything
		}
	}
	put(elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: headerSize, Ehsize: headerSize, Shentsize: sectionSize, Shnum: 3, Shstrndx: 2,
	})
	at := uint64(headerSize + 3*sectionSize)
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(data))})
	put(elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(data)), Size: uint64(len(names))})
	return append(append(b.Bytes(), data...), names...)
}

func TestModulesComeAfterWhatTheyDependOn(t *testing.T) {
	t.Parallel()
	k := writeKernel(t, map[string][]string{
		"tls":       {"license=GPL", "depends=crypto-base,net_core", "softdep=pre: gcm absent post: later"},
		"gcm":       {"depends="},
		"later":     {"depends="},
		"cryp-bas2": {"depends="},
		"net-core":  {"depends=cryp_bas2"},
		"broken":    {"depends=nowhere"},
	}, "crypto-base")
	tests := []struct {
		name   string
		wanted []string
		want   []string
		err    error
	}{
		{"dependencies first, soft ones too, built-in ones not at all", []string{"tls"}, []string{"gcm", "cryp_bas2", "net_core", "tls"}, nil},
		{"each once", []string{"net-core", " net_core", "cryp_bas2"}, []string{"cryp_bas2", "net_core"}, nil},
		{"built in", []string{"crypto_base", ""}, nil, nil},
		{"optional and absent", []string{"absent?", "gcm?"}, []string{"gcm"}, nil},
		{"absent", []string{"absent"}, nil, errNoModule},
		{"absent dependency", []string{"broken"}, nil, errNoModule},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			modules, err := k.resolve(tt.wanted)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			var got []string
			for _, m := range modules {
				got = append(got, m.name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKernelIsIndexed(t *testing.T) {
	t.Parallel()
	k := writeKernel(t, map[string][]string{"a-b": nil})
	if k.release != "6.1.0-test" || filepath.Base(k.image) != "vmlinuz-6.1.0-test" || k.files["a_b"] == "" {
		t.Errorf("kernel is %+v", k)
	}
	if _, err := openKernel(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening an empty directory: %v", err)
	}
}

func TestModuleThatIsNoELFIsAnError(t *testing.T) {
	t.Parallel()
	for _, data := range []string{"", "not an ELF file", string(moduleFile(nil)[:70])} {
		if _, _, err := moduleDepends([]byte(data)); err == nil {
			t.Errorf("reading the dependencies of %q succeeded", data)
		}
	}
}
