package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"google.golang.org/grpc/grpclog"

	"image-pull-secrets/e2e-tests/cluster/cluster/node"
)

// The parts are started on the main thread; see process.start.
func init() { runtime.LockOSThread() }

var started = time.Now()

func progress(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "cluster: %5.1fs "+format+"\n", append([]any{time.Since(started).Seconds()}, values...)...)
}

type options struct {
	dir        string
	watchCache bool
	nodes      int
}

// up is the subcommand: a cluster from here until somebody ends it.
func up(arguments []string) int {
	var o options
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", "", "directory for everything; must be empty or not exist, and is removed at the end (default: a temporary one)")
	flags.BoolVar(&o.watchCache, "watch-cache", true, "whether the API server serves watches from memory; without it `compact` alone makes every resumed watch answer 410")
	flags.IntVar(&o.nodes, "nodes", 0, "how many Nodes, each with a kubelet that pulls images; with them come a scheduler and a registry")
	if err := flags.Parse(arguments); err != nil {
		return 2
	}
	if o.nodes < 0 {
		fmt.Fprintf(os.Stderr, "cluster: --nodes %d: it cannot be less than 0\n", o.nodes)
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "cluster: up takes no argument %q\n%s", flags.Arg(0), usage)
		return 2
	}
	// The client that compacts etcd reports its own hang-up as a warning.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr))
	ctx, commands := untilEnded(os.Stdin)
	if err := runCluster(ctx, o, commands); err != nil {
		progress("%v", err)
		return 1
	}
	return 0
}

// runCluster leaves nothing behind: no process, no directory.
func runCluster(ctx context.Context, o options, commands <-chan string) (err error) {
	dir, err := makeDir(o.dir)
	if err != nil {
		return err
	}
	cleaner, err := startReaper(dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	c, err := newCluster(dir, o)
	if err == nil {
		err = c.run(ctx, commands)
		c.killAll()
	}
	if cleanup := cleaner.finish(); cleanup != nil {
		return errors.Join(err, fmt.Errorf("cannot remove %s: %w", dir, cleanup))
	}
	if ended := context.Cause(ctx); ended != nil && (err == nil || errors.Is(err, ended)) {
		progress("ended: %v", ended)
		return nil
	}
	return err
}

func makeDir(wanted string) (string, error) {
	if wanted == "" {
		return os.MkdirTemp("", "cluster-")
	}
	dir, err := filepath.Abs(wanted)
	if err != nil {
		return "", fmt.Errorf("cannot use --dir %s: %w", wanted, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make --dir %s: %w", wanted, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("cannot read --dir %s: %w", wanted, err)
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("--dir %s is not empty, and would be removed at the end: name a directory that does not exist yet", wanted)
	}
	return dir, nil
}

// cluster is the running whole.
type cluster struct {
	at layout
	// stages are the parts in the order in which they start. Those of one stage
	// start together, when the stage before works.
	stages [][]*process
	exits  chan *process
}

func newCluster(dir string, o options) (*cluster, error) {
	found, err := findPrograms()
	if err != nil {
		return nil, err
	}
	minor, err := minorVersion(found[apiServerName])
	if err != nil {
		return nil, err
	}
	at, err := newLayout(dir, o.nodes)
	if err != nil {
		return nil, err
	}
	if err := writePKI(at); err != nil {
		return nil, err
	}
	c := &cluster{at: at, exits: make(chan *process)}
	part := func(name string, command, flags []string, works probe) *process {
		return &process{name: name, command: slices.Concat(command, flags), log: at.log(name), works: works, exits: c.exits}
	}
	c.stages = [][]*process{
		{part(etcdName, found[etcdName], at.etcdFlags(), answers(http.DefaultClient, at.etcdURL+"/health"))},
		{part(apiServerName, found[apiServerName], at.apiServerFlags(minor, o.watchCache), apiServerReady(at))},
		{part(controllerManagerName, found[controllerManagerName], at.controllerManagerFlags(), controllersWork(at))},
	}
	if len(at.nodes) == 0 {
		return c, nil
	}
	if err := at.writeSchedulerConfig(); err != nil {
		return nil, err
	}
	last := &c.stages[len(c.stages)-1]
	*last = append(*last,
		part(schedulerName, found[schedulerName], at.schedulerFlags(), schedulerReady(at)),
		part(registryName, found[registryName], at.registryFlags(), answers(http.DefaultClient, at.control()+"/pulls")))
	for i, name := range at.nodes {
		kubelet := part(kubeletName, found[kubeletName], at.kubeletFlags(name), nodeReady(at, name))
		kubelet.name = fmt.Sprintf("%s-%d", kubeletName, i)
		kubelet.log = at.log(kubelet.name)
		kubelet.home = at.emptyHome()
		*last = append(*last, kubelet)
	}
	return c, nil
}

// newLayout chooses the ports and makes the directories.
func newLayout(dir string, nodes int) (layout, error) {
	ports, err := freePorts(5)
	if err != nil {
		return layout{}, err
	}
	at := layout{
		dir:             dir,
		etcdURL:         fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		port:            ports[1],
		schedulerPort:   ports[2],
		registryAddress: fmt.Sprintf("127.0.0.1:%d", ports[3]),
		controlAddress:  fmt.Sprintf("127.0.0.1:%d", ports[4]),
	}
	directories := []string{at.logs()}
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i)
		if err := node.CheckRoot(at.nodeRoot(name)); err != nil {
			return layout{}, err
		}
		at.nodes = append(at.nodes, name)
	}
	if nodes > 0 {
		directories = append(directories, at.pulls(), at.emptyHome())
	}
	for _, directory := range directories {
		if err := os.Mkdir(directory, 0o700); err != nil {
			return layout{}, fmt.Errorf("cannot make a directory of the cluster: %w", err)
		}
	}
	return at, nil
}

// parts in the order in which they start.
func (c *cluster) parts() []*process { return slices.Concat(c.stages...) }

// run returns when ctx ends, or with an error when a part does.
func (c *cluster) run(ctx context.Context, commands <-chan string) error {
	for _, stage := range c.stages {
		for _, part := range stage {
			progress("starting %s", part.name)
			if err := part.start(); err != nil {
				return err
			}
		}
		for _, part := range stage {
			if err := c.waitReady(ctx, part); err != nil {
				return err
			}
		}
	}
	if err := c.announce(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case part := <-c.exits:
			if part.endedByItself() {
				return part.failure()
			}
		case line := <-commands:
			if err := json.NewEncoder(os.Stdout).Encode(c.obey(ctx, line)); err != nil {
				return fmt.Errorf("cannot answer on standard output: %w", err)
			}
		}
	}
}

// ready is the line on standard output that says the cluster can be used.
type ready struct {
	Kubeconfig string      `json:"kubeconfig"`
	Server     string      `json:"server"`
	Version    string      `json:"version"`
	Dir        string      `json:"dir"`
	PID        int         `json:"pid"`
	Seconds    float64     `json:"seconds"`
	Parts      []readyPart `json:"parts"`

	Nodes []string `json:"nodes,omitempty"`
	// Registry is the URL of its control API, RegistryAddress where it serves
	// images over TLS, and RegistryCA the file with its authority.
	Registry        string `json:"registry,omitempty"`
	RegistryAddress string `json:"registryAddress,omitempty"`
	RegistryCA      string `json:"registryCA,omitempty"`
}

type readyPart struct {
	Name    string `json:"name"`
	Program string `json:"program"`
	PID     int    `json:"pid"`
	Log     string `json:"log"`
}

func (c *cluster) announce() error {
	version, err := serverVersion(c.at)
	if err != nil {
		return err
	}
	line := ready{
		Kubeconfig: c.at.kubeconfig(),
		Server:     c.at.server(),
		Version:    version,
		Dir:        c.at.dir,
		PID:        os.Getpid(),
		Seconds:    time.Since(started).Round(10 * time.Millisecond).Seconds(),
	}
	if line.Nodes = c.at.nodes; len(line.Nodes) > 0 {
		line.Registry, line.RegistryAddress, line.RegistryCA = c.at.control(), c.at.registryAddress, c.at.registryCA()
	}
	for _, part := range c.parts() {
		line.Parts = append(line.Parts, readyPart{part.name, part.command[0], part.running.Process.Pid, part.log})
	}
	progress("ready: Kubernetes %s at %s; KUBECONFIG=%s", line.Version, line.Server, line.Kubeconfig)
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		return fmt.Errorf("cannot announce the cluster on standard output: %w", err)
	}
	return nil
}

// killAll needs no grace: the data is thrown away.
func (c *cluster) killAll() {
	for _, part := range c.parts() {
		if part.isRunning() {
			_ = part.stop(syscall.SIGKILL, time.Minute)
		}
	}
}
