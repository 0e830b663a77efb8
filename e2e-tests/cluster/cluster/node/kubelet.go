// Package node runs a kubelet whose containers do not run.
//
// The kubelet is Kubernetes' own: it watches its Pods, reads their Secrets,
// chooses credentials, backs off and recovers. Under it are an image service
// that really pulls (images.go), a runtime that keeps containers in memory
// (runtime.go), and no cgroups, mounts or network, so that it needs no rights.
package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	containertest "k8s.io/kubernetes/pkg/kubelet/container/testing"
	kubeletutil "k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/kubernetes/pkg/util/oom"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"

	"image-pull-secrets/e2e-tests/cluster/cluster/registry"
)

// Options say which Node this is.
type Options struct {
	// Name is the Node's.
	Name string
	// Kubeconfig is the Node's own: it may read what Pods bound to it need.
	Kubeconfig string
	// Root is the kubelet's directory. It is emptied first: what a former
	// kubelet left there belongs to images that are gone.
	Root string
	// Registry is the address that every host of an image is dialled at, and
	// RegistryCA the file with the authority that signs its certificates.
	Registry, RegistryCA string
	// Pulls is the directory for the record of what was pulled.
	Pulls string
}

// socketBelow is the longest path below Root that the kubelet listens at.
const socketBelow = "pod-resources/kubelet.sock"

// CheckRoot says whether a kubelet can use a directory with this name: the
// kernel wants names of sockets to be short.
func CheckRoot(root string) error {
	longest := len(syscall.RawSockaddrUnix{}.Path) - 1
	if socket := filepath.Join(root, socketBelow); len(socket) > longest {
		return fmt.Errorf("%s has %d characters, and a socket's name may have %d: name a directory with a shorter path", socket, len(socket), longest)
	}
	return nil
}

// Run starts the kubelet. It runs on when this returns.
func Run(ctx context.Context, o Options) error {
	if err := os.RemoveAll(o.Root); err != nil {
		return fmt.Errorf("cannot empty %s: %w", o.Root, err)
	}
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return fmt.Errorf("cannot make %s: %w", o.Root, err)
	}
	server, err := configuration(o)
	if err != nil {
		return err
	}
	dependencies, err := dependencies(ctx, o, server)
	if err != nil {
		return err
	}
	return app.RunKubelet(ctx, server, dependencies)
}

// configuration departs from the defaults where those need a real machine, and
// where they make a test wait.
func configuration(o Options) (*options.KubeletServer, error) {
	flags := options.NewKubeletFlags()
	flags.HostnameOverride = o.Name
	flags.RootDirectory = o.Root
	flags.CertDirectory = filepath.Join(o.Root, "pki")

	config, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, fmt.Errorf("cannot make a kubelet's configuration: %w", err)
	}
	config.PodLogsDir = filepath.Join(o.Root, "pod-logs")
	config.StaticPodPath = ""
	config.EnableServer = false
	config.ReadOnlyPort = 0
	config.HealthzPort = 0

	// Nothing of the machine is changed: as root it would write its iptables.
	config.MakeIPTablesUtilChains = false
	config.CgroupsPerQOS = false
	config.EnforceNodeAllocatable = nil
	config.EnableControllerAttachDetach = false
	config.LocalStorageCapacityIsolation = false
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		config.MaxOpenFiles = min(config.MaxOpenFiles, int64(limit.Max))
	}

	// No Pod is refused, evicted or told of a DNS server that is missing.
	config.MaxPods = 1000
	config.EvictionHard = nil
	config.ImageGCHighThresholdPercent, config.ImageGCLowThresholdPercent = 100, 99
	config.ResolverConfig = ""
	config.ClusterDNS = []string{"10.0.0.10"}

	// What is measured is the kubelet's own waiting, not its throttles.
	config.SyncFrequency = metav1.Duration{Duration: time.Second}
	config.SerializeImagePulls = false
	config.RegistryPullQPS = 0
	config.EventRecordQPS, config.EventBurst = 100, 200
	config.KubeAPIQPS, config.KubeAPIBurst = 100, 200
	return &options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *config}, nil
}

func dependencies(ctx context.Context, o Options, server *options.KubeletServer) (*kubelet.Dependencies, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("cannot use the Node's kubeconfig: %w", err)
	}
	config.ContentType = server.ContentType
	config.QPS, config.Burst = float32(server.KubeAPIQPS), int(server.KubeAPIBurst)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client: %w", err)
	}
	unthrottled := rest.CopyConfig(config)
	unthrottled.QPS = -1
	heartbeats, err := kubernetes.NewForConfig(unthrottled)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for heartbeats: %w", err)
	}
	log, err := registry.OpenPullLog(o.Pulls, o.Name)
	if err != nil {
		return nil, err
	}
	images, err := newImageService(o.Name, o.Root, o.Registry, o.RegistryCA, log)
	if err != nil {
		return nil, err
	}
	volumes, err := app.ProbeVolumePlugins(ctx, utilfeature.DefaultFeatureGate)
	if err != nil {
		return nil, fmt.Errorf("cannot list the volume plugins: %w", err)
	}
	return &kubelet.Dependencies{
		KubeClient:                client,
		EventClient:               client.CoreV1(),
		HeartbeatClient:           heartbeats,
		Recorder:                  recorder(),
		RemoteImageService:        images,
		RemoteRuntimeService:      newContainerRuntime(initContainers{client}.has),
		CAdvisorInterface:         &machine{},
		ContainerManager:          cm.NewStubContainerManager(),
		OSInterface:               &containertest.FakeOS{},
		OOMAdjuster:               oom.NewFakeOOMAdjuster(),
		Mounter:                   &mount.FakeMounter{},
		Subpather:                 &subpath.FakeSubpath{},
		HostUtil:                  hostutil.NewFakeHostUtil(nil),
		VolumePlugins:             volumes,
		PodStartupLatencyTracker:  kubeletutil.NewPodStartupLatencyTracker(),
		NodeStartupLatencyTracker: kubeletutil.NewNodeStartupLatencyTracker(),
		TracerProvider:            noop.NewTracerProvider(),
	}, nil
}

// recorder is nil where the kubelet can make its own, which sends Events to the
// API server. With that one it also watches the kernel's log, and starts only
// where it may read it; it skips that for exactly this type.
func recorder() record.EventRecorderLogger {
	kernelLog, err := os.Open("/dev/kmsg")
	if err != nil {
		klog.InfoS("No Events are sent: the kubelet sends them only where it can read the kernel's log", "err", err)
		return &record.FakeRecorder{}
	}
	kernelLog.Close()
	return nil
}

// initContainers asks the API server, because the runtime is not told.
type initContainers struct{ client kubernetes.Interface }

// has says whether a container is an init container that is to end. A side-car
// is one that is not.
func (i initContainers) has(ctx context.Context, namespace, pod, container string) bool {
	object, err := i.client.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
	if err != nil {
		klog.ErrorS(err, "A container runs on, whether it is an init container or not", "pod", klog.KRef(namespace, pod), "container", container)
		return false
	}
	return slices.ContainsFunc(object.Spec.InitContainers, func(init v1.Container) bool {
		sidecar := init.RestartPolicy != nil && *init.RestartPolicy == v1.ContainerRestartPolicyAlways
		return init.Name == container && !sidecar
	})
}
