package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// readyTimeout is generous: on a machine of two cores with a load of 30 the API
// server has taken more than three minutes.
const readyTimeout = 10 * time.Minute

// probe asks once whether a part, which was started at that time, does its work.
type probe func(ctx context.Context, since time.Time) error

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
		case <-part.ended:
			return part.failure()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// check asks a part once whether it works.
func (c *cluster) check(ctx context.Context, part *process) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return part.works(ctx, part.begun)
}

// answers asks a URL that answers 200 when all is well.
func answers(client *http.Client, url string) probe {
	return func(ctx context.Context, _ time.Time) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	}
}

func apiServerReady(at layout) probe {
	return func(ctx context.Context, _ time.Time) error {
		client, err := adminClient(at)
		if err != nil {
			return err
		}
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}
}

// schedulerReady trusts any certificate: it is loopback's.
func schedulerReady(at layout) probe {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	return answers(client, fmt.Sprintf("https://127.0.0.1:%d/readyz", at.schedulerPort))
}

// controllersWork looks at what they do, because they answer nobody.
func controllersWork(at layout) probe {
	return func(ctx context.Context, _ time.Time) error {
		client, err := adminClient(at)
		if err != nil {
			return err
		}
		_, err = client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	}
}

// nodeReady wants a sign of life from this process: what the Node says of itself
// stays when its kubelet is stopped. (Its Lease would tell too, but a new Node
// has none for ten seconds.)
func nodeReady(at layout, name string) probe {
	return func(ctx context.Context, since time.Time) error {
		client, err := adminClient(at)
		if err != nil {
			return err
		}
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			// The API server keeps whole seconds.
			said := !condition.LastHeartbeatTime.Time.Before(since.Truncate(time.Second))
			if condition.Type == v1.NodeReady && condition.Status == v1.ConditionTrue && said {
				return nil
			}
		}
		return fmt.Errorf("the Node %s does not say that it is Ready", name)
	}
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
