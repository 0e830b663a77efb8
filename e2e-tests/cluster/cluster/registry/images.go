package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// made is the answer about an image that was made.
type made struct {
	Image string `json:"image"`
	// Digest is the manifest's.
	Digest string `json:"digest"`
	// ID is the config's digest, the name of the image in a container runtime.
	ID string `json:"id"`
}

// makeImage puts an image into the store of its host, past what that accepts.
func (s *Server) makeImage(reference string) (made, error) {
	at, err := name.NewTag(reference, name.WithDefaultTag("latest"))
	if err != nil {
		return made{}, err
	}
	image, err := random.Image(1024, 1)
	if err != nil {
		return made{}, fmt.Errorf("cannot make an image: %w", err)
	}
	if err := remote.Write(at, image, remote.WithTransport(handlerTransport{s.host(at.RegistryStr()).images})); err != nil {
		return made{}, fmt.Errorf("cannot store %s: %w", at, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return made{}, err
	}
	id, err := image.ConfigName()
	if err != nil {
		return made{}, err
	}
	return made{reference, digest.String(), id.String()}, nil
}

// handlerTransport calls a handler without a network.
type handlerTransport struct{ handler http.Handler }

func (t handlerTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	received := request.Clone(request.Context())
	if received.Body == nil {
		received.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	t.handler.ServeHTTP(recorder, received)
	response := recorder.Result()
	response.Request = request
	return response, nil
}

// canonicalHost is the one name of a host: Docker Hub has three.
func canonicalHost(host string) string {
	if host == "docker.io" || host == "registry-1.docker.io" {
		return name.DefaultRegistry
	}
	return strings.ToLower(host)
}

// repositoryOf reads the repository from a path of the distribution API, which
// may have any number of segments; "" is none.
func repositoryOf(path string) string {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return ""
	}
	for _, kind := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
		if at := strings.LastIndex(rest, kind); at > 0 {
			return rest[:at]
		}
	}
	return ""
}

// refuse answers as the distribution specification wants it.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	type fault struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	_ = json.NewEncoder(w).Encode(map[string][]fault{"errors": {{code, message}}})
}
