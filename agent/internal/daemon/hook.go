package daemon

import (
	"context"
	"errors"
	"fmt"
	"path"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"
	"github.com/sallyport/sallyport/runtime/containerd"
	"github.com/sallyport/sallyport/runtime/identity"
	"github.com/sallyport/sallyport/runtime/oci"
)

// Govern implements api.Governor: an OCI hook holds the start of a container until its policies are in force.
func (a *agent) Govern(ctx context.Context, req *apiv1.GovernRequest) (*apiv1.GovernResponse, error) {
	if a.engine == nil {
		return nil, errors.New("the agent is starting")
	}
	c, cgroupsPath, err := a.describeHooked(ctx, req)
	if err == nil {
		err = oci.Locator{Cgroups: a.cgroups, Proc: a.proc}.Locate(&c, req.GetPid(), cgroupsPath)
	}
	if err == nil {
		err = a.engine.await(ctx, c)
	}
	if err != nil {
		if req.GetRefuse() {
			a.hookRefused.Add(1)
		} else {
			a.hookAdmitted.Add(1)
		}
		a.late(c, "hook", err, req.GetRefuse())
		return nil, err
	}
	now := a.engine.snapshot()
	return &apiv1.GovernResponse{Revision: now.revision, Governed: now.tables.Containers[c.CgroupID] != 0}, nil
}

// describeHooked says what a container that a hook tells of is: what containerd knows of it, or else what its own spec
// says, in which a pod's labels are not.
func (a *agent) describeHooked(ctx context.Context, req *apiv1.GovernRequest) (identity.Container, string, error) {
	fallback := oci.Describe(req.GetId(), req.GetAnnotations())
	if a.lookup == nil {
		return fallback, req.GetCgroupsPath(), nil
	}
	// containerd's shim keeps its bundles in …/NAMESPACE/ID.
	namespace := path.Base(path.Dir(req.GetBundle()))
	c, cgroupsPath, err := a.lookup.Describe(ctx, namespace, req.GetId())
	if errors.Is(err, containerd.ErrNotFound) {
		return fallback, req.GetCgroupsPath(), nil // another runtime's
	}
	if err != nil {
		return fallback, "", fmt.Errorf("describing container %s: %w", req.GetId(), err)
	}
	return c, cgroupsPath, nil
}
