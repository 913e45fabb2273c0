package identity

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	many := make(map[string]string)
	for i := range maxLabels + 5 {
		many[fmt.Sprintf("k%05d", i)] = "v"
	}
	kept, dropped := BoundLabels(many)
	if _, last := kept[fmt.Sprintf("k%05d", maxLabels-1)]; len(kept) != maxLabels || dropped != 5 || !last {
		t.Errorf("%d labels kept, %d dropped", len(kept), dropped)
	}
	kept, dropped = BoundLabels(map[string]string{"a": "1", "b": strings.Repeat("x", maxLabelBytes), "c": "2"})
	if diff := cmp.Diff(map[string]string{"a": "1"}, kept); diff != "" || dropped != 2 {
		t.Errorf("%d dropped, kept (-want +got):\n%s", dropped, diff)
	}
}

func TestPodLabelsAreThePodsOwn(t *testing.T) {
	t.Parallel()
	all := map[string]string{
		"app": "web", LabelPod: "p", LabelNamespace: "n", LabelUID: "u", "io.cri-containerd.kind": "sandbox", "io.kubernetes.other": "x",
	}
	kept, dropped := PodLabels(all)
	if diff := cmp.Diff(map[string]string{"app": "web", "io.kubernetes.other": "x"}, kept); diff != "" || dropped != 0 || len(all) != 6 {
		t.Errorf("%d dropped, kept (-want +got):\n%s", dropped, diff)
	}
}

func TestParseProbes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		want       [][]string
		broken     bool
	}{
		{name: "none"},
		{name: "two", text: `[["cat","/tmp/healthy"],["/bin/sh","-c","exit 0"]]`, want: [][]string{{"cat", "/tmp/healthy"}, {"/bin/sh", "-c", "exit 0"}}},
		{name: "an empty argument", text: `[["a",""]]`, want: [][]string{{"a", ""}}},
		{name: "no JSON", text: `cat /tmp/healthy`, broken: true},
		{name: "one command only", text: `["cat"]`, broken: true},
		{name: "an empty command", text: `[[]]`, broken: true},
		{name: "no program", text: `[["","x"]]`, broken: true},
		{name: "too long", text: `[["` + strings.Repeat("x", maxProbeBytes) + `"]]`, broken: true},
		{name: "too many", text: `[` + strings.Repeat(`["x"],`, maxProbes) + `["x"]]`, broken: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseProbes(map[string]string{AnnotationProbes + "web": tc.text, AnnotationProbes + "other": `[["z"]]`}, "web")
			if diff := cmp.Diff(tc.want, got); diff != "" || (err != nil) != tc.broken {
				t.Errorf("error %v, parsed (-want +got):\n%s", err, diff)
			}
		})
	}
}
