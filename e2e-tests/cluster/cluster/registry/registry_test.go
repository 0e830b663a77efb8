package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// fixture is a server that is called without a network.
type fixture struct {
	*Server
	log *bytes.Buffer
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	log_ := &bytes.Buffer{}
	return fixture{NewServer(t.TempDir(), log.New(log_, "", 0)), log_}
}

// control sends a request to the control API and gives status and text.
func (f fixture) control(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	f.Control().ServeHTTP(recorder, httptest.NewRequest(method, path, strings.NewReader(body)))
	return recorder.Code, recorder.Body.String()
}

func (f fixture) put(t *testing.T, host, access string) {
	t.Helper()
	if status, text := f.control(t, http.MethodPut, "/hosts/"+host, access); status != http.StatusNoContent {
		t.Fatalf("%d: %s", status, text)
	}
}

func (f fixture) make(t *testing.T, image string) made {
	t.Helper()
	status, text := f.control(t, http.MethodPost, "/images", `{"image": "`+image+`"}`)
	var answer made
	if err := json.Unmarshal([]byte(text), &answer); status != http.StatusOK || err != nil {
		t.Fatalf("%d: %s (%v)", status, text, err)
	}
	return answer
}

var (
	nobody = authn.AuthConfig{}
	alice  = authn.AuthConfig{Username: "alice", Password: "alice's secret"}
	bob    = authn.AuthConfig{Username: "bob", Password: "bob's secret"}
	wrong  = authn.AuthConfig{Username: "alice", Password: "a wrong secret"}
)

// pull gives the HTTP status that a client ends with.
func (f fixture) pull(t *testing.T, image string, as authn.AuthConfig) int {
	t.Helper()
	reference, err := name.ParseReference(image)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(reference, remote.WithAuth(authn.FromConfig(as)),
		remote.WithTransport(handlerTransport{f.Registry()}), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	if err == nil {
		var id, raw = pulled.ConfigName()
		if raw != nil || id.String() == "" {
			err = raw
		}
	}
	var refusal *transport.Error
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &refusal):
		return refusal.StatusCode
	default:
		t.Fatal(err)
		return 0
	}
}

const accounts = `"accounts": {"alice": "alice's secret", "bob": "bob's secret"}`

func TestWhoMayPullWhat(t *testing.T) {
	const restricted = accounts + `, "public": ["open"], "repositories": {"acme": ["alice"], "acme/shared": ["bob"]}`
	cases := []struct {
		name       string
		access     string
		repository string
		as         authn.AuthConfig
		status     int
	}{
		{"an account", accounts, "any/app", alice, 200},
		{"nobody", accounts, "any/app", nobody, 401},
		{"a wrong password", accounts, "any/app", wrong, 401},
		{"nobody, of what is public", restricted, "open/app", nobody, 200},
		{"a wrong password, even of what is public", restricted, "open/app", wrong, 401},
		{"an account, of what is its own", restricted, "acme/app", alice, 200},
		{"an account, of what is another's", restricted, "acme/app", bob, 403},
		{"an account, of a part that is its own", restricted, "acme/shared/app", bob, 200},
		{"an account, of what only begins like another's", restricted, "acmeco/app", bob, 200},
		{"nobody, of what is another's", restricted, "acme/app", nobody, 401},
	}
	for _, auth := range []string{authBasic, authBearer} {
		f := newFixture(t)
		for _, c := range cases {
			t.Run(auth+": "+c.name, func(t *testing.T) {
				f.make(t, "registry.example.com/"+c.repository+":1")
				f.put(t, "registry.example.com", `{"auth": "`+auth+`", `+c.access+`}`)
				if status := f.pull(t, "registry.example.com/"+c.repository+":1", c.as); status != c.status {
					t.Fatalf("expected %d, got %d", c.status, status)
				}
			})
		}
		t.Run(auth+": an image that is not there", func(t *testing.T) {
			f.put(t, "registry.example.com", `{"auth": "`+auth+`", `+accounts+`}`)
			if status := f.pull(t, "registry.example.com/none:1", alice); status != http.StatusNotFound {
				t.Fatal(status)
			}
		})
		for _, secret := range []string{alice.Password, bob.Password, wrong.Password} {
			if strings.Contains(f.log.String(), secret) {
				t.Fatalf("the log holds a password:\n%s", f.log)
			}
		}
		if !strings.Contains(f.log.String(), `user="alice" 200`) {
			t.Fatalf("the log names no user:\n%s", f.log)
		}
	}
}

func TestAHostThatWasNeverPutRefusesEverybody(t *testing.T) {
	f := newFixture(t)
	f.make(t, "registry.example.com/app:1")
	for _, as := range []authn.AuthConfig{nobody, alice} {
		if status := f.pull(t, "registry.example.com/app:1", as); status != http.StatusUnauthorized {
			t.Fatal(status)
		}
	}
}

func TestAHostWithoutAuthenticationGivesToEverybody(t *testing.T) {
	f := newFixture(t)
	f.make(t, "registry.example.com/app:1")
	f.put(t, "registry.example.com", `{"auth": "none"}`)
	for _, as := range []authn.AuthConfig{nobody, alice} {
		if status := f.pull(t, "registry.example.com/app:1", as); status != http.StatusOK {
			t.Fatal(status)
		}
	}
}

func TestHostsAreApart(t *testing.T) {
	f := newFixture(t)
	f.make(t, "one.example.com:5000/app:1")
	f.put(t, "one.example.com:5000", `{"auth": "basic", "accounts": {"alice": "alice's secret"}}`)
	f.put(t, "two.example.com", `{"auth": "basic", "accounts": {"bob": "bob's secret"}}`)
	for host, status := range map[string]int{"one.example.com:5000": 200, "one.example.com": 401, "two.example.com": 401} {
		if got := f.pull(t, host+"/app:1", alice); got != status {
			t.Fatalf("%s: expected %d, got %d", host, status, got)
		}
	}
}

func TestDockerHubHasManyNames(t *testing.T) {
	f := newFixture(t)
	f.make(t, "nginx")
	f.put(t, "docker.io", `{"auth": "bearer", `+accounts+`, "repositories": {"library": ["alice"]}}`)
	for _, image := range []string{"nginx", "docker.io/nginx", "docker.io/library/nginx:latest", "index.docker.io/library/nginx"} {
		if status := f.pull(t, image, alice); status != http.StatusOK {
			t.Fatalf("%s: %d", image, status)
		}
	}
}

func TestAccessCanBeReplacedWhileItRuns(t *testing.T) {
	f := newFixture(t)
	const image = "registry.example.com/acme/app:1"
	f.make(t, image)
	for _, step := range []struct {
		access     string
		alice, bob int
	}{
		{`{"auth": "bearer", ` + accounts + `}`, 200, 200},
		{`{"auth": "bearer", "accounts": {"alice": "a new secret", "bob": "bob's secret"}}`, 401, 200},
		{`{"auth": "basic", ` + accounts + `, "repositories": {"acme": ["alice"]}}`, 200, 403},
		{`{"auth": "basic", ` + accounts + `, "status": 503}`, 503, 503},
	} {
		f.put(t, "registry.example.com", step.access)
		for as, status := range map[authn.AuthConfig]int{alice: step.alice, bob: step.bob} {
			if got := f.pull(t, image, as); got != status {
				t.Fatalf("%s: %s: expected %d, got %d", step.access, as.Username, status, got)
			}
		}
	}
}

func TestATokenIsForWhatItWasAskedFor(t *testing.T) {
	f := newFixture(t)
	for _, image := range []string{"acme/app", "acme/other"} {
		f.make(t, "registry.example.com/"+image+":1")
	}
	f.put(t, "registry.example.com", `{"auth": "bearer", `+accounts+`}`)
	ask := func(host, path, authorization string) *httptest.ResponseRecorder {
		request := httptest.NewRequest(http.MethodGet, "https://"+host+path, nil)
		request.Header.Set("Authorization", authorization)
		recorder := httptest.NewRecorder()
		f.Registry().ServeHTTP(recorder, request)
		return recorder
	}
	var answer struct{ Token string }
	if err := json.NewDecoder(ask("registry.example.com", "/token?scope=repository:acme/app:pull", basic(alice)).Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	expect := func(what, host, path, token string, status int) {
		t.Helper()
		if got := ask(host, path, "Bearer "+token).Code; got != status {
			t.Fatalf("%s: expected %d, got %d", what, status, got)
		}
	}
	expect("its repository", "registry.example.com", "/v2/acme/app/manifests/1", answer.Token, 200)
	expect("another repository", "registry.example.com", "/v2/acme/other/manifests/1", answer.Token, 403)
	expect("a token that was changed", "registry.example.com", "/v2/acme/app/manifests/1", answer.Token+"x", 401)
	f.put(t, "other.example.com", `{"auth": "bearer", `+accounts+`}`)
	expect("another host", "other.example.com", "/v2/acme/app/manifests/1", answer.Token, 401)
	f.put(t, "registry.example.com", `{"auth": "bearer", "accounts": {"bob": "bob's secret"}}`)
	expect("an account that is gone", "registry.example.com", "/v2/acme/app/manifests/1", answer.Token, 401)
}

func basic(who authn.AuthConfig) string {
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.SetBasicAuth(who.Username, who.Password)
	return request.Header.Get("Authorization")
}

func TestAnImageThatIsMadeAgainIsAnother(t *testing.T) {
	f := newFixture(t)
	f.put(t, "registry.example.com", `{"auth": "none"}`)
	first, second := f.make(t, "registry.example.com/app:1"), f.make(t, "registry.example.com/app:1")
	if first.Digest == second.Digest || first.ID == second.ID {
		t.Fatal(first, second)
	}
	for _, digest := range []string{first.Digest, second.Digest} {
		if status := f.pull(t, "registry.example.com/app@"+digest, nobody); status != http.StatusOK {
			t.Fatal(status)
		}
	}
}

func TestAMistakeInAControlRequestIsNamed(t *testing.T) {
	for body, message := range map[string]string{
		`{}`:                                     "auth is \"\"",
		`{"auth": "digest"}`:                     "auth is \"digest\"",
		`{"auth": "none", "status": 200}`:        "status is 200",
		`{"auth": "none", "acounts": {}}`:        "acounts",
		`{"auth": "basic", "accounts": {"":""}}`: "has no user name",
		`{"auth": "basic", "repositories": {"acme": ["alice"]}}`: `repositories["acme"] names "alice"`,
	} {
		if status, text := newFixture(t).control(t, http.MethodPut, "/hosts/registry.example.com", body); status != http.StatusBadRequest || !strings.Contains(text, message) {
			t.Errorf("%s: %d: %s", body, status, text)
		}
	}
	if status, text := newFixture(t).control(t, http.MethodPost, "/images", `{"image": "UPPER/case"}`); status != http.StatusBadRequest {
		t.Errorf("%d: %s", status, text)
	}
}

func TestPullsAreFoundByImageAndNamespaceInTheirOrder(t *testing.T) {
	f := newFixture(t)
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, node := range []string{"node-1", "node-0", "node-1"} {
		log, err := OpenPullLog(f.pulls.directory, node)
		if err != nil {
			t.Fatal(err)
		}
		pull := Pull{Node: node, Namespace: "team-a", Image: "registry.example.com/acme/app:1", Outcome: Pulled, At: at.Add(time.Duration(i) * time.Second)}
		if i == 2 {
			pull.Namespace, pull.Image = "team-b", "registry.example.com/other:1"
		}
		if err := log.Add(pull); err != nil {
			t.Fatal(err)
		}
		for query, count := range map[string]int{
			"":                                  i + 1,
			"?prefix=registry.example.com/acme": min(i+1, 2),
			"?namespace=team-b":                 max(i-1, 0),
			"?prefix=other.example.com":         0,
			"?prefix=registry&namespace=team-a": min(i+1, 2),
		} {
			status, text := f.control(t, http.MethodGet, "/pulls"+query, "")
			var found []Pull
			if err := json.Unmarshal([]byte(text), &found); status != http.StatusOK || err != nil || found == nil || len(found) != count {
				t.Fatalf("%q: expected %d, got %s (%d, %v)", query, count, text, status, err)
			}
			for j := range found[min(1, len(found)):] {
				if found[j+1].At.Before(found[j].At) {
					t.Fatalf("out of order: %s", text)
				}
			}
		}
	}
}
