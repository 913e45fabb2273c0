package testutil

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"testing"
)

// File is one file of an image.
type File struct {
	Path   string // in the image
	Source string // on the machine, or
	Data   []byte // the contents
	Link   string // not "": a symbolic link to this
	Mode   int64  // 0: 0755
}

// Image makes an image of busybox, with a link for each of its applets, and files, and imports it under the name ref
// ("test.local/box:1"). No registry is asked. The first Run unpacks it.
func (c *Containerd) Image(t testing.TB, ref string, files ...File) {
	t.Helper()
	c.ImageIn(t, c.Namespace, ref, files...)
}

// ImageIn is Image for another containerd namespace.
func (c *Containerd) ImageIn(t testing.TB, namespace, ref string, files ...File) {
	t.Helper()
	c.used[namespace] = true
	archive, err := os.CreateTemp(c.dir, "image-*.tar")
	if err != nil {
		t.Fatal(err)
	}
	err = WriteImage(t, archive, ImageSpec{Ref: ref, Files: files})
	if closing := archive.Close(); err == nil {
		err = closing
	}
	if err != nil {
		t.Fatal("writing the image: ", err)
	}
	if _, err := c.try(namespace, "images", "import", "--no-unpack", archive.Name()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(archive.Name()); err != nil {
		t.Fatal(err)
	}
}

// ImageSpec says what an image of busybox holds beside it.
type ImageSpec struct {
	Ref     string // test.local/box:1
	Command []string
	Files   []File
}

// WriteImage writes an image of busybox and files, as docker save would.
func WriteImage(t testing.TB, to io.Writer, spec ImageSpec) error {
	t.Helper()
	if spec.Command == nil {
		spec.Command = []string{"/bin/sh"}
	}
	expected := []string{"dev", "etc", "proc", "root", "run", "sys", "tmp", "var"} // by programs in a container
	return writeArchive(to, spec, layer(t, expected, append(busyboxFiles(t), spec.Files...)))
}

func busyboxFiles(t testing.TB) []File {
	t.Helper()
	busybox, err := LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal("listing busybox's applets: ", err)
	}
	files := []File{
		{Path: "/bin/busybox", Source: busybox},
		{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"), Mode: 0o644},
		{Path: "/etc/group", Data: []byte("root:x:0:\nnogroup:x:65534:\n"), Mode: 0o644},
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			files = append(files, File{Path: "/bin/" + applet, Link: "busybox"})
		}
	}
	return files
}

// layer is a tar of directories, and of files with the directories that they need.
func layer(t testing.TB, dirs []string, files []File) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal("writing the image's layer: ", err)
		}
	}
	made := map[string]bool{".": true}
	var mkdir func(dir string)
	mkdir = func(dir string) {
		if made[dir] {
			return
		}
		mkdir(path.Dir(dir))
		made[dir] = true
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		check(w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: mode}))
	}
	for _, dir := range dirs {
		mkdir(dir)
	}
	for _, file := range files {
		name := strings.TrimPrefix(path.Clean(file.Path), "/")
		mkdir(path.Dir(name))
		if file.Link != "" {
			check(w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: file.Link, Mode: 0o777}))
			continue
		}
		data := file.Data
		if file.Source != "" {
			var err error
			data, err = os.ReadFile(file.Source)
			check(err)
		}
		mode := file.Mode
		if mode == 0 {
			mode = 0o755
		}
		check(w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(data))}))
		_, err := w.Write(data)
		check(err)
	}
	check(w.Close())
	return out.Bytes()
}

// writeArchive writes a configuration, one layer, and a manifest that names both.
func writeArchive(to io.Writer, spec ImageSpec, layer []byte) error {
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2026-01-01T00:00:00Z",
		"config": map[string]any{"Env": []string{"PATH=/bin:/usr/bin:/sbin"}, "WorkingDir": "/", "Cmd": spec.Command},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	if err != nil {
		return err
	}
	configName, layerName := digest(config)+".json", digest(layer)+"/layer.tar"
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{spec.Ref}, "Layers": []string{layerName}}})
	if err != nil {
		return err
	}
	w := tar.NewWriter(to)
	for _, part := range []struct {
		name string
		data []byte
	}{{configName, config}, {layerName, layer}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: part.name, Mode: 0o644, Size: int64(len(part.data))}); err != nil {
			return err
		}
		if _, err := w.Write(part.data); err != nil {
			return err
		}
	}
	return w.Close()
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
