package smoke

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// optIn is the scheduler that binds only Pods that ask for it by name.
const optIn = "test-cluster"

// secretWord is in every password here, and may be in no record, log or answer.
const secretWord = "correct-horse"

// Accounts are a user name and a password.
var (
	alice    = [2]string{"alice", secretWord + "-a"}
	bob      = [2]string{"bob", secretWord + "-b"}
	accounts = map[string]string{alice[0]: alice[1], bob[0]: bob[1]}
)

func basicAuth(account [2]string) string {
	return base64.StdEncoding.EncodeToString([]byte(account[0] + ":" + account[1]))
}

// upWithNodes has a short directory: the kubelets listen at sockets in it.
func upWithNodes(t *testing.T, nodes int) *running {
	t.Helper()
	parent, err := os.MkdirTemp("", "smoke-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	command := up(t, "--nodes", fmt.Sprint(nodes))
	command.Args[3] = filepath.Join(parent, "c")
	// What a developer is logged in to must not help a Pod.
	home := t.TempDir()
	config := fmt.Appendf(nil, `{"auths": {"*.example.com": {"auth": %q}}}`, basicAuth(alice))
	if err := os.Mkdir(filepath.Join(home, ".docker"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".docker", "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	command.Env = append(os.Environ(), "HOME="+home)
	return start(t, command)
}

// pull is one record of the registry's control API.
type pull struct{ Node, Namespace, Pod, Image, User, Outcome, Message string }

func (p pull) String() string {
	return fmt.Sprintf("%s %s as %q for %s/%s on %s: %s", p.Outcome, p.Image, p.User, p.Namespace, p.Pod, p.Node, p.Message)
}

// control asks the registry's control API, and gives its answer.
func (r *running) control(t *testing.T, method, path string, body any) []byte {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, r.ready.Registry+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		t.Fatalf("%s %s: %s: %s (%v)", method, path, response.Status, answer, err)
	}
	return answer
}

type access map[string]any

func (r *running) put(t *testing.T, host string, a access) {
	t.Helper()
	r.control(t, http.MethodPut, "/hosts/"+host, a)
}

func (r *running) image(t *testing.T, image string) (id string) {
	t.Helper()
	var made struct{ ID string }
	if err := json.Unmarshal(r.control(t, http.MethodPost, "/images", map[string]string{"image": image}), &made); err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// pulls gives what the Pods of a namespace pulled.
func (r *running) pulls(t *testing.T, namespace string) []pull {
	t.Helper()
	var pulls []pull
	answer := r.control(t, http.MethodGet, "/pulls?namespace="+url.QueryEscape(namespace), nil)
	if err := json.Unmarshal(answer, &pulls); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	if bytes.Contains(answer, []byte(secretWord)) {
		t.Fatalf("a record holds a password: %s", answer)
	}
	return pulls
}

// pulled waits for an outcome and gives its record.
func (r *running) pulled(t *testing.T, namespace, outcome string, more func(pull) bool) pull {
	t.Helper()
	var found pull
	eventually(t, "a pull that is "+outcome+" in "+namespace, func() bool {
		pulls := r.pulls(t, namespace)
		i := slices.IndexFunc(pulls, func(p pull) bool { return p.Outcome == outcome && more(p) })
		if i >= 0 {
			found = pulls[i]
		}
		return i >= 0
	})
	return found
}

// namespace makes one with its ServiceAccount, and with a pull Secret for each
// host: the name of the Secret is the host's.
func (r *running) namespace(t *testing.T, name string, hosts map[string][2]string) {
	t.Helper()
	ctx := t.Context()
	if _, err := r.client.CoreV1().Namespaces().Create(ctx, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ServiceAccount default in "+name, func() bool {
		_, err := r.client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})
	for host, account := range hosts {
		if _, err := r.client.CoreV1().Secrets(name).Create(ctx, pullSecret(host, account), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func pullSecret(host string, account [2]string) *v1.Secret {
	return &v1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: strings.ReplaceAll(host, ":", "-")},
		Type:       v1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{v1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, host, basicAuth(account))},
	}
}

// pod is one that gets onto a Node, with the Secrets of those hosts.
func pod(image string, hosts ...string) *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-"},
		Spec:       v1.PodSpec{SchedulerName: optIn, Containers: []v1.Container{{Name: "main", Image: image}}},
	}
	for _, host := range hosts {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, v1.LocalObjectReference{Name: strings.ReplaceAll(host, ":", "-")})
	}
	return pod
}

func (r *running) create(t *testing.T, namespace string, pod *v1.Pod) string {
	t.Helper()
	created, err := r.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created.Name
}

// becomes waits for a state of a Pod.
func (r *running) becomes(t *testing.T, namespace, name, what string, is func(*v1.Pod) bool) {
	t.Helper()
	eventually(t, namespace+"/"+name+" to be "+what, func() bool {
		pod, err := r.client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
		return err == nil && is(pod)
	})
}

func isReady(pod *v1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.PodReady && c.Status == v1.ConditionTrue
	})
}

func isWaiting(reasons ...string) func(*v1.Pod) bool {
	return func(pod *v1.Pod) bool {
		statuses := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
		return slices.ContainsFunc(statuses, func(s v1.ContainerStatus) bool {
			return s.State.Waiting != nil && slices.Contains(reasons, s.State.Waiting.Reason) && !s.Ready
		})
	}
}

func TestNodesPullImages(t *testing.T) {
	r := upWithNodes(t, 2)
	ctx := t.Context()

	// After every subtest, so that what they leave is in the logs.
	t.Cleanup(func() {
		for _, part := range r.ready.Parts {
			log, err := os.ReadFile(part.Log)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(log, []byte(secretWord)) {
				t.Errorf("the log of %s holds a password", part.Name)
			}
		}
	})

	t.Run("the Nodes are named and Ready", func(t *testing.T) {
		nodes, err := r.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, node := range nodes.Items {
			names = append(names, node.Name)
			if len(node.Spec.Taints) > 0 {
				t.Errorf("%s is tainted: %v", node.Name, node.Spec.Taints)
			}
		}
		if !slices.Equal(names, r.ready.Nodes) || len(names) != 2 {
			t.Fatal(names, r.ready.Nodes)
		}
	})

	for _, auth := range []string{"basic", "bearer"} {
		t.Run("a Pod with a right Secret pulls, with "+auth, func(t *testing.T) {
			t.Parallel()
			host, namespace := auth+".example.com", "right-"+auth
			r.put(t, host, access{"auth": auth, "accounts": accounts, "repositories": map[string][]string{"acme": {"alice"}}})
			id := r.image(t, host+"/acme/app:1")
			r.namespace(t, namespace, map[string][2]string{host: alice})
			name := r.create(t, namespace, pod(host+"/acme/app:1", host))
			r.becomes(t, namespace, name, "ready", func(p *v1.Pod) bool {
				return isReady(p) && p.Status.ContainerStatuses[0].ImageID == id && p.Status.ContainerStatuses[0].Image == host+"/acme/app:1"
			})
			// The first attempt may come before the kubelet has read the Secret.
			pulls := slices.DeleteFunc(r.pulls(t, namespace), func(p pull) bool { return p.User == "" && p.Outcome == "refused" })
			if len(pulls) != 1 || pulls[0].User != "alice" || pulls[0].Outcome != "pulled" || pulls[0].Pod != name || !slices.Contains(r.ready.Nodes, pulls[0].Node) {
				t.Fatal(pulls)
			}
		})
		t.Run("a Pod without a Secret is refused, and so is one without the right, with "+auth, func(t *testing.T) {
			t.Parallel()
			host, namespace := auth+"-2.example.com", "wrong-"+auth
			r.put(t, host, access{"auth": auth, "accounts": accounts, "repositories": map[string][]string{"acme": {"alice"}}})
			r.image(t, host+"/acme/app:1")
			r.namespace(t, namespace, map[string][2]string{host: bob})
			without := r.create(t, namespace, pod(host+"/acme/app:1"))
			r.becomes(t, namespace, without, "refused", isWaiting("ErrImagePull", "ImagePullBackOff"))
			refused := r.pulled(t, namespace, "refused", func(p pull) bool { return p.Pod == without })
			if refused.User != "" || !strings.Contains(refused.Message, "UNAUTHORIZED") {
				t.Fatal(refused)
			}
			other := r.create(t, namespace, pod(host+"/acme/app:1", host))
			refused = r.pulled(t, namespace, "refused", func(p pull) bool { return p.Pod == other })
			if refused.User != "bob" || !strings.Contains(refused.Message, "DENIED") {
				t.Fatal(refused)
			}
		})
	}

	t.Run("a Deployment's Pods get onto both Nodes", func(t *testing.T) {
		t.Parallel()
		host, namespace := "deployment.example.com", "deployment"
		r.put(t, host, access{"auth": "none"})
		r.image(t, host+"/app")
		r.namespace(t, namespace, nil)
		labels := map[string]string{"app": "deployment"}
		deployment := &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "deployment"},
			Spec: appsv1.DeploymentSpec{
				Replicas: ptr.To[int32](4),
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod(host + "/app").Spec},
			},
		}
		if _, err := r.client.AppsV1().Deployments(namespace).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the Deployment", func() bool {
			d, err := r.client.AppsV1().Deployments(namespace).Get(ctx, "deployment", metav1.GetOptions{})
			return err == nil && d.Status.ReadyReplicas == 4
		})
		for _, node := range r.ready.Nodes {
			r.pulled(t, namespace, "pulled", func(p pull) bool { return p.Node == node })
		}
	})

	t.Run("a Pod that asks for no Node stays as it was made", func(t *testing.T) {
		t.Parallel()
		r.namespace(t, "apart", nil)
		name := r.create(t, "apart", &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "apart"}, Spec: podSpec()})
		// A Pod that came later is scheduled and refused, so that this one was seen.
		late := r.create(t, "apart", pod("never-put.example.com/app"))
		r.becomes(t, "apart", late, "refused", isWaiting("ErrImagePull", "ImagePullBackOff"))
		apart, err := r.client.CoreV1().Pods("apart").Get(ctx, name, metav1.GetOptions{})
		if err != nil || apart.Spec.NodeName != "" || apart.Status.Phase != v1.PodPending || len(apart.Status.Conditions) > 0 {
			t.Fatal(err, apart.Spec.NodeName, apart.Status)
		}
	})

	t.Run("init containers end, side-cars and ephemeral containers run, image volumes are pulled", func(t *testing.T) {
		t.Parallel()
		host, namespace := "many.example.com", "many"
		r.put(t, host, access{"auth": "bearer", "accounts": accounts})
		r.namespace(t, namespace, map[string][2]string{host: alice})
		images := map[string]string{}
		for _, name := range []string{"init", "sidecar", "main", "volume", "debug"} {
			images[name] = host + "/" + name + ":1"
			r.image(t, images[name])
		}
		many := pod(images["main"], host)
		many.Spec.InitContainers = []v1.Container{
			{Name: "init", Image: images["init"]},
			{Name: "sidecar", Image: images["sidecar"], RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways)},
		}
		many.Spec.Volumes = []v1.Volume{{Name: "volume", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: images["volume"]}}}}
		many.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "volume", MountPath: "/volume"}}
		name := r.create(t, namespace, many)
		r.becomes(t, namespace, name, "ready", func(p *v1.Pod) bool {
			return isReady(p) && p.Status.InitContainerStatuses[0].State.Terminated != nil && p.Status.InitContainerStatuses[1].State.Running != nil
		})
		running, err := r.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		running.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug", Image: images["debug"]}}}
		if _, err := r.client.CoreV1().Pods(namespace).UpdateEphemeralContainers(ctx, name, running, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		r.becomes(t, namespace, name, "debugged", func(p *v1.Pod) bool {
			return len(p.Status.EphemeralContainerStatuses) == 1 && p.Status.EphemeralContainerStatuses[0].State.Running != nil
		})
		for _, image := range images {
			r.pulled(t, namespace, "pulled", func(p pull) bool { return p.Image == image && p.User == "alice" })
		}
	})

	t.Run("a password that is changed at the registry counts at once", func(t *testing.T) {
		t.Parallel()
		host, namespace := "rotation.example.com:5000", "rotation"
		r.put(t, host, access{"auth": "bearer", "accounts": accounts})
		r.image(t, host+"/app:1")
		r.namespace(t, namespace, map[string][2]string{host: alice})
		always := func() *v1.Pod {
			p := pod(host+"/app:1", host)
			p.Spec.Containers[0].ImagePullPolicy = v1.PullAlways
			return p
		}
		before := r.create(t, namespace, always())
		r.becomes(t, namespace, before, "ready", isReady)
		changed := [2]string{"alice", secretWord + "-changed"}
		r.put(t, host, access{"auth": "bearer", "accounts": map[string]string{changed[0]: changed[1]}})
		between := r.create(t, namespace, always())
		r.pulled(t, namespace, "refused", func(p pull) bool { return p.Pod == between && p.User == "alice" })
		if _, err := r.client.CoreV1().Secrets(namespace).Update(ctx, pullSecret(host, changed), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		after := r.create(t, namespace, always())
		r.becomes(t, namespace, after, "ready", isReady)
		r.becomes(t, namespace, between, "ready: it recovers by itself", isReady)
	})

	t.Run("an image that was pulled with a Secret is for Pods that have it", func(t *testing.T) {
		t.Parallel()
		host := "kept.example.com"
		r.put(t, host, access{"auth": "basic", "accounts": accounts})
		r.image(t, host+"/app:1")
		on := func(p *v1.Pod) *v1.Pod {
			p.Spec.NodeName = r.ready.Nodes[0]
			return p
		}
		for _, namespace := range []string{"kept-1", "kept-2"} {
			r.namespace(t, namespace, map[string][2]string{host: alice})
			r.becomes(t, namespace, r.create(t, namespace, on(pod(host+"/app:1", host))), "ready", isReady)
		}
		// The first attempt may come before the kubelet has read the Secret.
		if pulls := r.pulls(t, "kept-2"); slices.ContainsFunc(pulls, func(p pull) bool { return p.User != "" }) {
			t.Fatalf("an equal Secret pulled again: %v", pulls)
		}
		r.create(t, "kept-2", on(pod(host+"/app:1")))
		r.pulled(t, "kept-2", "refused", func(p pull) bool { return p.User == "" })
	})

	t.Run("a Secret that is malformed blocks the Pod before anything is pulled", func(t *testing.T) {
		t.Parallel()
		host, namespace := "malformed.example.com", "malformed"
		r.put(t, host, access{"auth": "basic", "accounts": accounts, "public": []string{"app"}})
		r.namespace(t, namespace, nil)
		secret := pullSecret(host, alice)
		secret.Data[v1.DockerConfigJsonKey] = []byte(`{"auths": []}`)
		if _, err := r.client.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		// The kubelet's first attempt may come before it has read the Secret, and is then anonymous. The first Pod's image is
		// private, so that it is refused and tried again; the second Pod finds the Secret read.
		images := []string{host + "/private:1", host + "/app:1"}
		for _, image := range images {
			r.image(t, image)
			blocked := pod(image, host)
			blocked.Spec.NodeName = r.ready.Nodes[0]
			name := r.create(t, namespace, blocked)
			r.becomes(t, namespace, name, "blocked", func(p *v1.Pod) bool {
				return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
					strings.Contains(p.Status.ContainerStatuses[0].State.Waiting.Reason+p.Status.ContainerStatuses[0].State.Waiting.Message, "unmarshal")
			})
		}
		if pulls := r.pulls(t, namespace); slices.ContainsFunc(pulls, func(p pull) bool { return p.Image == images[1] }) {
			t.Fatal(pulls)
		}
	})

	t.Run("an account without a password is sent as it is", func(t *testing.T) {
		t.Parallel()
		host, namespace := "empty.example.com", "empty"
		r.put(t, host, access{"auth": "bearer", "accounts": accounts, "public": []string{"app"}})
		r.image(t, host+"/app:1")
		r.namespace(t, namespace, map[string][2]string{host: {"alice", ""}})
		r.create(t, namespace, pod(host+"/app:1", host))
		r.pulled(t, namespace, "refused", func(p pull) bool { return p.User == "alice" })
	})

	t.Run("an image that is not there is absent, and a registry out of order has failed", func(t *testing.T) {
		t.Parallel()
		r.namespace(t, "none", nil)
		r.put(t, "none.example.com", access{"auth": "none"})
		r.put(t, "broken.example.com", access{"auth": "none", "status": 503})
		r.create(t, "none", pod("none.example.com/app:1"))
		r.create(t, "none", pod("broken.example.com/app:1"))
		r.pulled(t, "none", "absent", func(p pull) bool { return p.Image == "none.example.com/app:1" })
		r.pulled(t, "none", "failed", func(p pull) bool { return p.Image == "broken.example.com/app:1" })
	})

	t.Run("a deleted Pod goes, and its namespace", func(t *testing.T) {
		t.Parallel()
		r.namespace(t, "deleted", nil)
		r.put(t, "deleted.example.com", access{"auth": "none"})
		r.image(t, "deleted.example.com/app:1")
		name := r.create(t, "deleted", pod("deleted.example.com/app:1"))
		r.becomes(t, "deleted", name, "ready", isReady)
		if err := r.client.CoreV1().Namespaces().Delete(ctx, "deleted", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the namespace to go", func() bool {
			_, err := r.client.CoreV1().Namespaces().Get(context.WithoutCancel(ctx), "deleted", metav1.GetOptions{})
			return err != nil
		})
	})

	t.Run("the kubelet sends Events where it can", func(t *testing.T) {
		t.Parallel()
		if file, err := os.Open("/dev/kmsg"); err != nil {
			t.Skip(err)
		} else {
			file.Close()
		}
		r.namespace(t, "events", nil)
		name := r.create(t, "events", pod("never-put.example.com/app"))
		eventually(t, "an Event of the kubelet", func() bool {
			events, err := r.client.CoreV1().Events("events").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
			return err == nil && slices.ContainsFunc(events.Items, func(e v1.Event) bool {
				return e.Reason == "Failed" && e.Source.Component == "kubelet" && strings.Contains(e.Message, "UNAUTHORIZED")
			})
		})
	})
}

func TestPartsOfNodesCanBeStoppedAndStarted(t *testing.T) {
	r := upWithNodes(t, 1)
	r.put(t, "stopped.example.com", access{"auth": "none"})
	r.image(t, "stopped.example.com/app:1")
	r.namespace(t, "stopped", nil)

	// The order in which they come back is any.
	for _, part := range []string{"kubelet-0", "scheduler"} {
		r.mustSay(t, "stop "+part)
	}
	name := r.create(t, "stopped", pod("stopped.example.com/app:1"))
	for _, part := range []string{"kubelet-0", "scheduler"} {
		r.mustSay(t, "start "+part)
	}
	r.becomes(t, "stopped", name, "ready", isReady)

	for _, part := range []string{"registry", "apiserver", "kubelet-0"} {
		r.mustSay(t, "kill "+part)
		r.mustSay(t, "start "+part)
	}
	if pulls := r.pulls(t, "stopped"); len(pulls) == 0 {
		t.Fatal("a registry that is started again has lost the records")
	}
	// It has forgotten what it accepted.
	r.put(t, "stopped.example.com", access{"auth": "none"})
	r.image(t, "stopped.example.com/app:2")
	name = r.create(t, "stopped", pod("stopped.example.com/app:2"))
	r.becomes(t, "stopped", name, "ready", isReady)
}

func TestNothingOfTheNodesIsLeftBehind(t *testing.T) {
	r := upWithNodes(t, 2)
	if parts := len(r.ready.Parts); parts != 7 {
		t.Fatalf("%d parts", parts)
	}
	r.input.Close()
	r.mustVanish(t)
}

func TestADirectoryThatIsTooLongForNodesIsRefused(t *testing.T) {
	command := up(t, "--nodes", "1")
	command.Args[3] = filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	output, err := command.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "a shorter path") {
		t.Fatalf("%v: %s", err, output)
	}
	if _, err := os.Stat(command.Args[3]); !os.IsNotExist(err) {
		t.Fatalf("%s is still there (%v)", command.Args[3], err)
	}
}
