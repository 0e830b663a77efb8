package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const (
	etcdName              = "etcd"
	apiServerName         = "kube-apiserver"
	controllerManagerName = "kube-controller-manager"
	schedulerName         = "kube-scheduler"
	registryName          = "registry"
	kubeletName           = "kubelet"

	registryAuthority = "registry-ca"
)

// controllers are the ones that the scenarios need: what a namespace gets when
// it is born, what happens when it dies, and what turns a Deployment into Pods.
var controllers = []string{
	"serviceaccount-controller",
	"serviceaccount-token-controller",
	"root-ca-certificate-publisher-controller",
	"namespace-controller",
	"garbage-collector-controller",
	"deployment-controller",
	"replicaset-controller",
	"job-controller",
	"cronjob-controller",
	"disruption-controller",
	"clusterrole-aggregation-controller",
}

// programs maps each part to the command line that runs it.
type programs map[string][]string

// findPrograms takes the parts from the directory in KUBEBUILDER_ASSETS, the
// convention of envtest, or else those linked into this program. envtest ships
// no controller manager and no scheduler, so that these may come from here.
func findPrograms() (programs, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program's own file to start the parts from: %w", err)
	}
	found := programs{
		etcdName:              {self, etcdName},
		apiServerName:         {self, apiServerName},
		controllerManagerName: {self, controllerManagerName},
		schedulerName:         {self, schedulerName},
		registryName:          {self, registryName},
		kubeletName:           {self, kubeletName},
	}
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		progress("KUBEBUILDER_ASSETS is not set: using the parts linked into this program")
		return found, nil
	}
	for _, name := range []string{etcdName, apiServerName, controllerManagerName, schedulerName} {
		program := filepath.Join(assets, name)
		_, err := os.Stat(program)
		switch {
		case err == nil:
			progress("using %s", program)
			found[name] = []string{program}
		case (name == controllerManagerName || name == schedulerName) && errors.Is(err, os.ErrNotExist):
			progress("%s is not there: using the one linked into this program", program)
		default:
			return nil, fmt.Errorf("KUBEBUILDER_ASSETS names %s, but %s cannot be used there (%w); "+
				"point it at a directory with kube-apiserver and etcd, or unset it to use the parts linked into this program",
				assets, name, err)
		}
	}
	return found, nil
}

// minorVersion asks an API server binary which Kubernetes 1.x it is.
func minorVersion(command []string) (int, error) {
	asked := append(append([]string{}, command...), "--version")
	output, err := exec.Command(asked[0], asked[1:]...).Output()
	if err != nil {
		return 0, fmt.Errorf("cannot run %s: %w", strings.Join(asked, " "), err)
	}
	match := regexp.MustCompile(`Kubernetes v1\.(\d+)\.`).FindSubmatch(output)
	if match == nil {
		return 0, fmt.Errorf("%s answered %q, which names no Kubernetes 1.x version", strings.Join(asked, " "), output)
	}
	return strconv.Atoi(string(match[1]))
}

// mutatingAdmissionPolicyFlags switch MutatingAdmissionPolicy on where it is
// not on by default: alpha in 1.32, beta in 1.34, stable in 1.36
// (k8s.io/apiserver, pkg/features/kube_features.go).
func mutatingAdmissionPolicyFlags(minor int) []string {
	switch {
	case minor < 32 || minor >= 36:
		return nil
	case minor < 34:
		return []string{"--feature-gates=MutatingAdmissionPolicy=true", "--runtime-config=admissionregistration.k8s.io/v1alpha1=true"}
	default:
		return []string{"--feature-gates=MutatingAdmissionPolicy=true", "--runtime-config=admissionregistration.k8s.io/v1beta1=true"}
	}
}

// layout says where everything of one cluster is.
type layout struct {
	dir     string
	etcdURL string
	port    int

	// nodes are the names of the Nodes. Without any, the rest is not used.
	nodes           []string
	schedulerPort   int
	registryAddress string
	controlAddress  string
}

func (l layout) server() string         { return fmt.Sprintf("https://127.0.0.1:%d", l.port) }
func (l layout) pki(file string) string { return filepath.Join(l.dir, "pki", file) }
func (l layout) kubeconfig() string     { return filepath.Join(l.dir, "kubeconfig") }
func (l layout) controllerKubeconfig() string {
	return filepath.Join(l.dir, "controller-manager.kubeconfig")
}
func (l layout) schedulerKubeconfig() string {
	return filepath.Join(l.dir, "scheduler.kubeconfig")
}
func (l layout) schedulerConfig() string { return filepath.Join(l.dir, "scheduler.yaml") }
func (l layout) nodeKubeconfig(node string) string {
	return filepath.Join(l.dir, node+".kubeconfig")
}
func (l layout) nodeRoot(node string) string { return filepath.Join(l.dir, node) }
func (l layout) control() string             { return "http://" + l.controlAddress }
func (l layout) registryCA() string          { return l.pki(registryAuthority + ".crt") }
func (l layout) pulls() string               { return filepath.Join(l.dir, "pulls") }

// emptyHome is where a kubelet lives: it would use the credentials that it
// finds in its home and working directory.
func (l layout) emptyHome() string { return filepath.Join(l.dir, "home") }

func (l layout) log(part string) string { return filepath.Join(l.dir, "logs", part+".log") }
func (l layout) logs() string           { return filepath.Join(l.dir, "logs") }

func (l layout) etcdFlags() []string {
	return []string{
		"--data-dir=" + filepath.Join(l.dir, "etcd"),
		"--listen-client-urls=" + l.etcdURL,
		"--advertise-client-urls=" + l.etcdURL,
		"--listen-peer-urls=http://127.0.0.1:0",
		// Nobody needs this data after a crash of the machine.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

func (l layout) apiServerFlags(minor int, watchCache bool) []string {
	flags := append([]string{
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(l.port),
		// Its Service `kubernetes` would need an address outside loopback.
		"--endpoint-reconciler-type=none",
		"--etcd-servers=" + l.etcdURL,
		// Without it a stop waits a minute for clients that watch.
		"--shutdown-watch-termination-grace-period=1s",
		"--watch-cache=" + strconv.FormatBool(watchCache),
		"--authorization-mode=Node,RBAC",
		"--allow-privileged=true",
		"--client-ca-file=" + l.pki("ca.crt"),
		"--tls-cert-file=" + l.pki("apiserver.crt"),
		"--tls-private-key-file=" + l.pki("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + l.pki("sa.pub"),
		"--service-account-signing-key-file=" + l.pki("sa.key"),
		"--service-cluster-ip-range=10.0.0.0/24",
	}, mutatingAdmissionPolicyFlags(minor)...)
	if len(l.nodes) > 0 {
		// It taints a new Node until a controller, which does not run here,
		// finds it Ready.
		flags = append(flags, "--disable-admission-plugins=TaintNodesByCondition")
	}
	return flags
}

func (l layout) controllerManagerFlags() []string {
	return []string{
		"--kubeconfig=" + l.controllerKubeconfig(),
		"--controllers=" + strings.Join(controllers, ","),
		"--leader-elect=false",
		"--secure-port=0",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + l.pki("sa.key"),
		"--root-ca-file=" + l.pki("ca.crt"),
		// The default of 20 requests a second would be what a storm of
		// namespaces measures.
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	}
}

// optInScheduler is the name that a Pod asks for to get onto a Node. Every
// other Pod stays as it would without a scheduler.
const optInScheduler = "test-cluster"

func (l layout) writeSchedulerConfig() error {
	text := fmt.Sprintf(`apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: %q, qps: 200, burst: 400}
leaderElection: {leaderElect: false}
profiles: [{schedulerName: %s}]
`, l.schedulerKubeconfig(), optInScheduler)
	if err := os.WriteFile(l.schedulerConfig(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot write the scheduler's configuration: %w", err)
	}
	return nil
}

func (l layout) schedulerFlags() []string {
	return []string{
		"--config=" + l.schedulerConfig(),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(l.schedulerPort),
		// They are loopback's.
		"--tls-cert-file=" + l.pki("apiserver.crt"),
		"--tls-private-key-file=" + l.pki("apiserver.key"),
	}
}

func (l layout) registryFlags() []string {
	return []string{
		"--address=" + l.registryAddress,
		"--control=" + l.controlAddress,
		"--authority=" + l.pki(registryAuthority),
		"--pulls=" + l.pulls(),
	}
}

func (l layout) kubeletFlags(node string) []string {
	return []string{
		"--name=" + node,
		"--kubeconfig=" + l.nodeKubeconfig(node),
		"--root-dir=" + l.nodeRoot(node),
		"--registry=" + l.registryAddress,
		"--registry-ca=" + l.registryCA(),
		"--pulls=" + l.pulls(),
	}
}
