package node

import (
	"context"

	cadvisor "github.com/google/cadvisor/info/v1"
	cadvisorv2 "github.com/google/cadvisor/info/v2"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	runtimetest "k8s.io/cri-api/pkg/apis/testing"
	"k8s.io/kubelet/pkg/types"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
)

// containerRuntime is the container half of a container runtime. Its containers
// exist in memory and run for ever, but for those that end at once.
type containerRuntime struct {
	*runtimetest.FakeRuntimeService
	// endsAtOnce says whether a container is one that others wait for.
	endsAtOnce func(ctx context.Context, namespace, pod, container string) bool
}

func newContainerRuntime(endsAtOnce func(ctx context.Context, namespace, pod, container string) bool) *containerRuntime {
	fake := runtimetest.NewFakeRuntimeService()
	fake.FakeStatus = &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true},
		{Type: runtimeapi.NetworkReady, Status: true},
	}}
	return &containerRuntime{fake, endsAtOnce}
}

// StartContainer starts a container, and ends it with success where a Pod would
// wait for that.
func (r *containerRuntime) StartContainer(ctx context.Context, id string) error {
	if err := r.FakeRuntimeService.StartContainer(ctx, id); err != nil {
		return err
	}
	response, err := r.FakeRuntimeService.ContainerStatus(ctx, id, false)
	if err != nil {
		return err
	}
	labels := response.GetStatus().GetLabels()
	if !r.endsAtOnce(ctx,
		labels[types.KubernetesPodNamespaceLabel],
		labels[types.KubernetesPodNameLabel],
		labels[types.KubernetesContainerNameLabel]) {
		return nil
	}
	return r.FakeRuntimeService.StopContainer(ctx, id, 0)
}

// ContainerStatus names the image as the Pod does. The fake names its ID, and
// so would the Pod's status.
func (r *containerRuntime) ContainerStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.ContainerStatusResponse, error) {
	response, err := r.FakeRuntimeService.ContainerStatus(ctx, id, verbose)
	if image := response.GetStatus().GetImage(); image.GetUserSpecifiedImage() != "" {
		image.Image = image.UserSpecifiedImage
	}
	if status := response.GetStatus(); status.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
		status.Reason = "Completed"
	}
	return response, err
}

const gibibyte = 1 << 30

// machine is what the Node says of itself: more than any test asks for.
type machine struct{ cadvisortest.Fake }

func (m *machine) MachineInfo() (*cadvisor.MachineInfo, error) {
	info, err := m.Fake.MachineInfo()
	if err == nil {
		info.NumCores, info.MemoryCapacity = 64, 256*gibibyte
	}
	return info, err
}

var disk = cadvisorv2.FsInfo{Device: "memory", Capacity: 1024 * gibibyte, Available: 1024 * gibibyte}

func (m *machine) ImagesFsInfo(context.Context) (cadvisorv2.FsInfo, error)    { return disk, nil }
func (m *machine) ContainerFsInfo(context.Context) (cadvisorv2.FsInfo, error) { return disk, nil }
func (m *machine) RootFsInfo() (cadvisorv2.FsInfo, error)                     { return disk, nil }
func (m *machine) GetDirFsInfo(string) (cadvisorv2.FsInfo, error)             { return disk, nil }
