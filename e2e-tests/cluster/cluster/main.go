// Command cluster runs a disposable Kubernetes cluster on loopback: etcd, the
// API server and the controllers that matter; and, where it is asked for Nodes,
// the scheduler, kubelets that pull images but run no containers, and the
// registry that they pull from.
//
// `cluster up` is the program to use. The other subcommands are the parts that
// it starts; each takes the flags of the program it is named after.
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const usage = `usage:
  cluster up [--dir DIR] [--watch-cache=false] [--nodes N]
      Start a cluster and run it until standard input closes, the parent ends,
      or SIGTERM or SIGINT arrives. README.md describes what it prints and the
      commands that it takes on standard input.
  cluster etcd|kube-apiserver|kube-controller-manager|kube-scheduler|registry|kubelet FLAGS
      One part, as linked into this program.
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	subcommand, arguments := os.Args[1], os.Args[2:]
	switch subcommand {
	case "up":
		os.Exit(up(arguments))
	case reapSubcommand:
		os.Exit(reap(arguments))
	case etcdName:
		etcdmain.Main(append([]string{etcdName}, arguments...))
	case apiServerName:
		command := apiserver.NewAPIServerCommand()
		command.SetArgs(arguments)
		os.Exit(cli.Run(command))
	case controllerManagerName:
		command := controllermanager.NewControllerManagerCommand()
		command.SetArgs(arguments)
		os.Exit(cli.Run(command))
	case schedulerName:
		command := scheduler.NewSchedulerCommand()
		command.SetArgs(arguments)
		os.Exit(cli.Run(command))
	case registryName:
		os.Exit(runRegistry(arguments))
	case kubeletName:
		os.Exit(runKubelet(arguments))
	default:
		fmt.Fprintf(os.Stderr, "cluster: unknown subcommand %q\n%s", subcommand, usage)
		os.Exit(2)
	}
}
