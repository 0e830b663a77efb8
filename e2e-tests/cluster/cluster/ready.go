package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// readyTimeout is generous: on a machine that builds at the same time the API
// server has taken half a minute.
const readyTimeout = 3 * time.Minute

// waitReady returns when the part does its work, or with the reason why it
// does not.
func (c *cluster) waitReady(ctx context.Context, part *process) error {
	begun := time.Now()
	for {
		err := c.check(ctx, part)
		if err == nil {
			progress("%s is ready after %.1fs", part.name, time.Since(begun).Seconds())
			return nil
		}
		if time.Since(begun) > readyTimeout {
			return fmt.Errorf("%s was not ready within %s: %w; the end of its log:\n%s", part.name, readyTimeout, err, part.logTail(20))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-part.endedByItself():
			return part.failure()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// check asks a part once whether it works.
func (c *cluster) check(ctx context.Context, part *process) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	switch part {
	case c.etcd:
		return etcdHealthy(ctx, c.at.etcdURL)
	case c.apiServer:
		client, err := adminClient(c.at)
		if err != nil {
			return err
		}
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	default:
		// The controllers answer nobody: their work shows.
		client, err := adminClient(c.at)
		if err != nil {
			return err
		}
		_, err = client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	}
}

func etcdHealthy(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New("etcd answers " + response.Status)
	}
	return nil
}

func adminClient(at layout) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", at.kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("cannot use the kubeconfig just written: %w", err)
	}
	return kubernetes.NewForConfig(config)
}

func serverVersion(at layout) (string, error) {
	client, err := adminClient(at)
	if err != nil {
		return "", err
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		return "", fmt.Errorf("cannot ask the API server for its version: %w", err)
	}
	return version.GitVersion, nil
}
