package smoke

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistration "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestAControlPlaneBehavesAsOne(t *testing.T) {
	r := start(t, up(t))
	ctx := t.Context()

	newNamespace := func(t *testing.T, name string) {
		t.Helper()
		if _, err := r.client.CoreV1().Namespaces().Create(ctx, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the ServiceAccount default in "+name, func() bool {
			_, err := r.client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
			return err == nil
		})
	}

	t.Run("it reports the Kubernetes version that it is built from", func(t *testing.T) {
		if !strings.HasPrefix(r.ready.Version, "v1.") || strings.HasPrefix(r.ready.Version, "v1.0.") {
			t.Fatal(r.ready.Version)
		}
	})

	t.Run("a Deployment gets its Pods, which stay Pending, and a deleted namespace takes them along", func(t *testing.T) {
		newNamespace(t, "story")
		labels := map[string]string{"app": "story"}
		deployment := &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "story"},
			Spec: appsv1.DeploymentSpec{
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()},
			},
		}
		if _, err := r.client.AppsV1().Deployments("story").Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a Pod", func() bool {
			pods, err := r.client.CoreV1().Pods("story").List(ctx, metav1.ListOptions{})
			return err == nil && len(pods.Items) == 1 && pods.Items[0].Status.Phase == v1.PodPending
		})
		if err := r.client.CoreV1().Namespaces().Delete(ctx, "story", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the namespace to go", func() bool {
			_, err := r.client.CoreV1().Namespaces().Get(ctx, "story", metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
	})

	t.Run("RBAC gives a ServiceAccount what a role says and no more", func(t *testing.T) {
		newNamespace(t, "rbac")
		as := rest.ImpersonationConfig{UserName: "system:serviceaccount:rbac:default"}
		client := r.as(t, as)
		_, err := client.CoreV1().Secrets("rbac").Get(ctx, "allowed", metav1.GetOptions{})
		if !apierrors.IsForbidden(err) {
			t.Fatalf("before the role: %v", err)
		}
		role := &rbacv1.Role{
			ObjectMeta: metav1.ObjectMeta{Name: "reader"},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}, ResourceNames: []string{"allowed"}}},
		}
		if _, err := r.client.RbacV1().Roles("rbac").Create(ctx, role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "reader"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
			Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "rbac", Name: "default"}},
		}
		if _, err := r.client.RbacV1().RoleBindings("rbac").Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the role to count", func() bool {
			_, err := client.CoreV1().Secrets("rbac").Get(ctx, "allowed", metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
		if _, err := client.CoreV1().Secrets("rbac").Get(ctx, "other", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
			t.Fatalf("another Secret: %v", err)
		}
	})

	t.Run("an admission webhook on loopback and a MutatingAdmissionPolicy both change a Pod", func(t *testing.T) {
		newNamespace(t, "admission")
		r.registerWebhook(t)
		r.registerPolicy(t)
		eventually(t, "both to be called", func() bool {
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-"}, Spec: podSpec()}
			created, err := r.client.CoreV1().Pods("admission").Create(ctx, pod, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return created.Annotations["webhook"] == "called" && created.Labels["policy"] == "applied"
		})
	})

	t.Run("an unknown command is refused and the cluster goes on", func(t *testing.T) {
		given := r.say(t, "dance")
		if given.OK || !strings.Contains(given.Error, "stop PART") {
			t.Fatal(given)
		}
		if given := r.say(t, "start apiserver"); given.OK || given.Error != "kube-apiserver runs already" {
			t.Fatal(given)
		}
	})

	t.Run("the API server comes back with its objects, and an interrupted watch is too old", func(t *testing.T) {
		newNamespace(t, "outage")
		before, err := r.client.CoreV1().Secrets("outage").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r.mustSay(t, "stop apiserver")
		if _, err := r.client.CoreV1().Namespaces().Get(ctx, "outage", metav1.GetOptions{}); err == nil {
			t.Fatal("the API server answers while it is stopped")
		}
		if given := r.say(t, "stop apiserver"); given.OK || given.Error != "kube-apiserver does not run" {
			t.Fatal(given)
		}
		r.mustSay(t, "compact")
		r.mustSay(t, "start apiserver")
		if _, err := r.client.CoreV1().Namespaces().Get(ctx, "outage", metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		r.mustBeTooOld(t, before.ResourceVersion)
		newNamespace(t, "after-outage")
	})
}

func TestWithoutAWatchCacheACompactionAloneMakesWatchesTooOld(t *testing.T) {
	r := start(t, up(t, "--watch-cache=false"))
	before, err := r.client.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if given := r.mustSay(t, "compact"); given.Revision == 0 {
		t.Fatal(given)
	}
	r.mustBeTooOld(t, before.ResourceVersion)
}

// mustBeTooOld watches from version and wants a 410, which comes as the status
// of the request or as the first event.
func (r *running) mustBeTooOld(t *testing.T, version string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watcher, err := r.client.CoreV1().Secrets("").Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err == nil {
		defer watcher.Stop()
		event := <-watcher.ResultChan()
		if event.Type != watch.Error {
			t.Fatalf("expected an error, got %q", event.Type)
		}
		err = apierrors.FromObject(event.Object)
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Fatalf("expected 410, got %v", err)
	}
}

func (r *running) as(t *testing.T, who rest.ImpersonationConfig) *kubernetes.Clientset {
	t.Helper()
	config := r.config(t)
	config.Impersonate = who
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func podSpec() v1.PodSpec {
	return v1.PodSpec{Containers: []v1.Container{{Name: "main", Image: "registry.example.com/app"}}}
}

func inNamespace(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{v1.LabelMetadataName: name}}
}

var podCreation = admissionregistration.RuleWithOperations{
	Operations: []admissionregistration.OperationType{admissionregistration.Create},
	Rule:       admissionregistration.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
}

func (r *running) registerWebhook(t *testing.T) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(request.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		patchType := admissionv1.PatchTypeJSONPatch
		review.Response = &admissionv1.AdmissionResponse{
			UID: review.Request.UID, Allowed: true, PatchType: &patchType,
			Patch: []byte(`[{"op":"add","path":"/metadata/annotations","value":{"webhook":"called"}}]`),
		}
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	none := admissionregistration.SideEffectClassNone
	configuration := &admissionregistration.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "smoke"},
		Webhooks: []admissionregistration.MutatingWebhook{{
			Name: "smoke.example.com",
			ClientConfig: admissionregistration.WebhookClientConfig{
				URL:      &server.URL,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
			},
			Rules:                   []admissionregistration.RuleWithOperations{podCreation},
			NamespaceSelector:       inNamespace("admission"),
			SideEffects:             &none,
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
	if _, err := r.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), configuration, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (r *running) registerPolicy(t *testing.T) {
	t.Helper()
	policy := &admissionregistration.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "smoke"},
		Spec: admissionregistration.MutatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistration.MatchResources{
				NamespaceSelector: inNamespace("admission"),
				ResourceRules:     []admissionregistration.NamedRuleWithOperations{{RuleWithOperations: podCreation}},
			},
			ReinvocationPolicy: admissionregistration.NeverReinvocationPolicy,
			Mutations: []admissionregistration.Mutation{{
				PatchType: admissionregistration.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionregistration.ApplyConfiguration{
					Expression: `Object{metadata: Object.metadata{labels: {"policy": "applied"}}}`,
				},
			}},
		},
	}
	if _, err := r.client.AdmissionregistrationV1().MutatingAdmissionPolicies().Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &admissionregistration.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "smoke"},
		Spec:       admissionregistration.MutatingAdmissionPolicyBindingSpec{PolicyName: "smoke"},
	}
	if _, err := r.client.AdmissionregistrationV1().MutatingAdmissionPolicyBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
