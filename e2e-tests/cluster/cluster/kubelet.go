package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"image-pull-secrets/e2e-tests/cluster/cluster/node"
)

// runKubelet is the part that is one Node. It returns only when it cannot start.
func runKubelet(arguments []string) int {
	var o node.Options
	flags := flag.NewFlagSet(kubeletName, flag.ContinueOnError)
	flags.StringVar(&o.Name, "name", "", "the Node's name")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "the Node's own kubeconfig")
	flags.StringVar(&o.Root, "root-dir", "", "directory of the kubelet; it is emptied first")
	flags.StringVar(&o.Registry, "registry", "", "address that every host of an image is dialled at")
	flags.StringVar(&o.RegistryCA, "registry-ca", "", "file with the authority of the registry's certificates")
	flags.StringVar(&o.Pulls, "pulls", "", "directory for the record of what is pulled")
	if err := flags.Parse(arguments); err != nil {
		return 2
	}
	if err := node.Run(context.Background(), o); err != nil {
		fmt.Fprintf(os.Stderr, "cluster: the kubelet cannot start: %v\n", err)
		return 1
	}
	select {}
}
