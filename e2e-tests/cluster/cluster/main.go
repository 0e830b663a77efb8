// Command cluster runs a disposable Kubernetes control plane on loopback: etcd,
// the API server and the controllers that matter. There is no scheduler and no
// kubelet, so Pods stay Pending.
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
)

const usage = `usage:
  cluster up [--dir DIR] [--watch-cache=false]
      Start a cluster and run it until standard input closes, the parent ends,
      or SIGTERM or SIGINT arrives. README.md describes what it prints and the
      commands that it takes on standard input.
  cluster etcd|kube-apiserver|kube-controller-manager FLAGS
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
	default:
		fmt.Fprintf(os.Stderr, "cluster: unknown subcommand %q\n%s", subcommand, usage)
		os.Exit(2)
	}
}
