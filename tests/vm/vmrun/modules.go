package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernel is an unpacked linux-image package.
type kernel struct {
	image   string            // path of the bootable vmlinuz
	release string            // uname -r
	files   map[string]string // module name (with underscores) → path
	builtin map[string]bool   // modules linked into the image
}

// module is one .ko, unpacked, ready for finit_module.
type module struct {
	name string
	data []byte
}

// openKernel indexes the package unpacked at dir. Both places are known where Debian puts the image and modules.
func openKernel(dir string) (*kernel, error) {
	root, err := firstMatch(filepath.Join(dir, "lib/modules/*"), filepath.Join(dir, "usr/lib/modules/*"))
	if err != nil {
		return nil, fmt.Errorf("opening the kernel in %s: %w", dir, err)
	}
	image, err := firstMatch(filepath.Join(dir, "boot/vmlinuz-*"), filepath.Join(root, "vmlinuz"))
	if err != nil {
		return nil, fmt.Errorf("opening the kernel in %s: %w", dir, err)
	}
	k := &kernel{image: image, release: filepath.Base(root), files: map[string]string{}, builtin: map[string]bool{}}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(d.Name(), ".ko") {
			k.files[moduleName(p)] = p
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the modules in %s: %w", root, err)
	}
	list, err := os.ReadFile(filepath.Join(root, "modules.builtin"))
	if err != nil {
		return nil, fmt.Errorf("listing the modules built into the kernel: %w", err)
	}
	for line := range strings.FieldsSeq(string(list)) {
		k.builtin[moduleName(line)] = true
	}
	return k, nil
}

func firstMatch(patterns ...string) (string, error) {
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("nothing matches %s: %w", strings.Join(patterns, " or "), fs.ErrNotExist)
}

// resolve returns the wanted modules after everything they depend on, in an order in which they can be inserted, each
// once. Modules built into the kernel are left out, and so are those marked optional ("name?") that it does not have.
func (k *kernel) resolve(wanted []string) ([]module, error) {
	r := resolver{kernel: k, seen: map[string]bool{}}
	for _, name := range wanted {
		name, optional := strings.CutSuffix(strings.TrimSpace(name), "?")
		if name == "" {
			continue
		}
		if err := r.add(name); err != nil && (!optional || !errors.Is(err, errNoModule)) {
			return nil, fmt.Errorf("resolving module %s: %w", name, err)
		}
	}
	return r.ordered, nil
}

var errNoModule = errors.New("the kernel does not have this module")

// resolver walks the dependencies depth first.
type resolver struct {
	kernel  *kernel
	seen    map[string]bool
	ordered []module
}

func (r *resolver) add(name string) error {
	name = moduleName(name)
	if r.seen[name] || r.kernel.builtin[name] {
		return nil
	}
	file, ok := r.kernel.files[name]
	if !ok {
		return fmt.Errorf("%s: %w", name, errNoModule)
	}
	r.seen[name] = true
	data, err := readModule(file)
	if err != nil {
		return err
	}
	hard, soft, err := moduleDepends(data)
	if err != nil {
		return fmt.Errorf("reading module %s: %w", file, err)
	}
	for _, dep := range soft {
		if err := r.add(dep); err != nil && !errors.Is(err, errNoModule) {
			return err
		}
	}
	for _, dep := range hard {
		if err := r.add(dep); err != nil {
			return err
		}
	}
	r.ordered = append(r.ordered, module{name: name, data: data})
	return nil
}

// readModule returns the ELF file, unpacked by the tool that belongs to its suffix.
func readModule(file string) ([]byte, error) {
	var tool *exec.Cmd
	switch filepath.Ext(file) {
	case ".xz":
		tool = exec.Command("xz", "-dc", file)
	case ".zst":
		tool = exec.Command("zstd", "-dcq", file)
	default:
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading module: %w", err)
		}
		return data, nil
	}
	data, err := tool.Output()
	if err != nil {
		return nil, fmt.Errorf("unpacking module %s: %w", file, err)
	}
	return data, nil
}

// moduleDepends reads the names a module needs from its .modinfo section: hard ones (depends=) without which it cannot
// be inserted, and soft ones (softdep=pre:) that only have to come first where they exist.
func moduleDepends(data []byte) (hard, soft []string, err error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the ELF header: %w", err)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, nil, fmt.Errorf("reading .modinfo: %w", err)
	}
	for pair := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(pair), "=")
		switch key {
		case "depends":
			hard = append(hard, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case "softdep":
			soft = append(soft, softBefore(value)...)
		}
	}
	return hard, soft, nil
}

// softBefore returns the names that follow "pre:" in a softdep value such as "pre: a b post: c".
func softBefore(value string) []string {
	var names []string
	before := false
	for field := range strings.FieldsSeq(value) {
		if strings.HasSuffix(field, ":") {
			before = field == "pre:"
			continue
		}
		if before {
			names = append(names, field)
		}
	}
	return names
}

// moduleName turns a path, a file name or a name as people write it into the name the kernel uses.
func moduleName(p string) string {
	base := filepath.Base(p)
	if i := strings.Index(base, ".ko"); i >= 0 {
		base = base[:i]
	}
	return strings.ReplaceAll(base, "-", "_")
}
