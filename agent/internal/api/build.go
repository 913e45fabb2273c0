package api

import (
	"runtime"
	"runtime/debug"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
)

// Build says what this program was built from.
func Build() *apiv1.VersionResponse {
	v := &apiv1.VersionResponse{
		Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Commit = s.Value + v.Commit
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Commit += "+dirty"
		}
	}
	return v
}
