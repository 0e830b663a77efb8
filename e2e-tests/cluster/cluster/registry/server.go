// Package registry is a container registry for tests: it is every registry that
// the images of a test cluster name, each with accounts of its own.
//
// The kubelets dial it for every host, and the Host header says which one is
// meant. What a host accepts is put, and replaced, through a control API on
// another port; a host that was never put refuses everybody. The records of
// what the kubelets pulled are read there too.
package registry

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"sync"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// Server holds every host.
type Server struct {
	log   *log.Logger
	key   []byte
	pulls pulls

	mu    sync.Mutex
	hosts map[string]*host
}

type host struct {
	// access is nil for a host that was never put.
	access *Access
	images http.Handler
}

// NewServer makes a registry without hosts. pullLogs is the directory of the
// kubelets' records.
func NewServer(pullLogs string, logger *log.Logger) *Server {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return &Server{
		log:   logger,
		key:   key,
		pulls: pulls{directory: pullLogs, read: map[string]int64{}},
		hosts: map[string]*host{},
	}
}

// host gives what is known about a host now.
func (s *Server) host(name string) host {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.entry(name)
}

// entry is called with the lock held.
func (s *Server) entry(name string) *host {
	name = canonicalHost(name)
	if s.hosts[name] == nil {
		s.hosts[name] = &host{images: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))}
	}
	return s.hosts[name]
}

// Control is the API for tests: it has no authentication, and belongs on
// loopback.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /hosts/{host}", func(w http.ResponseWriter, r *http.Request) {
		var access Access
		if !decode(w, r, &access) {
			return
		}
		if err := access.validate(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.entry(r.PathValue("host")).access = &access
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /images", func(w http.ResponseWriter, r *http.Request) {
		var wanted struct {
			Image string `json:"image"`
		}
		if !decode(w, r, &wanted) {
			return
		}
		image, err := s.makeImage(wanted.Image)
		answer(w, image, err)
	})
	mux.HandleFunc("GET /pulls", func(w http.ResponseWriter, r *http.Request) {
		found, err := s.pulls.matching(r.FormValue("prefix"), r.FormValue("namespace"))
		answer(w, found, err)
	})
	return mux
}

func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	body := json.NewDecoder(r.Body)
	body.DisallowUnknownFields()
	if err := body.Decode(into); err != nil {
		http.Error(w, "cannot read the request: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func answer(w http.ResponseWriter, value any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// Registry is the distribution API of every host.
func (s *Server) Registry() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		user := s.serve(seen, r)
		s.log.Printf("%s %s%s user=%q %d", r.Method, r.Host, r.URL.Path, user, seen.status)
	})
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// serve answers one request, and gives the user that it came from.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) string {
	host := s.host(r.Host)
	switch {
	case host.access == nil:
		unauthorized(w, basicChallenge(r.Host))
		return anonymous
	case host.access.Status != 0:
		refuse(w, host.access.Status, "UNAVAILABLE", "the registry is out of order")
		return anonymous
	case host.access.Auth == authBearer && r.URL.Path == tokenPath:
		return s.serveToken(w, r, *host.access)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "images are made through the control API")
		return anonymous
	}
	caller := s.identify(r, *host.access)
	repository := repositoryOf(r.URL.Path)
	switch {
	case !caller.valid:
		unauthorized(w, caller.challenge)
	// The challenge to a client that asks first how to authenticate.
	case repository == "" && caller.user == anonymous && host.access.Auth != authNone:
		unauthorized(w, caller.challenge)
	case repository != "" && !caller.mayPull(repository):
		if caller.user == anonymous {
			unauthorized(w, caller.challenge)
		} else {
			refuse(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
		}
	default:
		host.images.ServeHTTP(w, r)
	}
	return caller.user
}

// caller is who sent a request.
type caller struct {
	user string
	// valid is false for a wrong password or token.
	valid bool
	// mayPull is asked for a valid caller only.
	mayPull   func(repository string) bool
	challenge string
}

func (s *Server) identify(r *http.Request, access Access) caller {
	if access.Auth == authBearer {
		return s.identifyBearer(r, access)
	}
	user, password, given := r.BasicAuth()
	return caller{
		user:      user,
		valid:     access.Auth == authNone || !given || access.knows(user, password),
		mayPull:   func(repository string) bool { return access.mayPull(user, repository) },
		challenge: basicChallenge(r.Host),
	}
}

const tokenPath = "/token"

func (s *Server) identifyBearer(r *http.Request, access Access) caller {
	challenge := fmt.Sprintf(`Bearer realm="https://%s%s",service="%s"`, r.Host, tokenPath, r.Host)
	if repository := repositoryOf(r.URL.Path); repository != "" {
		challenge += fmt.Sprintf(`,scope="repository:%s:pull"`, repository)
	}
	token, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !given {
		return caller{challenge: challenge}
	}
	user, scope, err := readToken(s.key, canonicalHost(r.Host), token)
	_, known := access.Accounts[user]
	return caller{
		user: user,
		// An account or a right that is revoked ends a token that is out, too.
		valid: err == nil && (known || user == anonymous),
		mayPull: func(repository string) bool {
			return slices.Contains(scope, repository) && access.mayPull(user, repository)
		},
		challenge: challenge,
	}
}

// serveToken gives a token for what the caller may do of what the scope asks
// for: to anybody, too, but never for a wrong password.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, access Access) string {
	user, password, given := r.BasicAuth()
	if given && !access.knows(user, password) {
		unauthorized(w, basicChallenge(r.Host))
		return user
	}
	var repositories []string
	for _, scope := range r.URL.Query()["scope"] {
		parts := strings.Split(scope, ":")
		if len(parts) == 3 && parts[0] == "repository" && access.mayPull(user, parts[1]) {
			repositories = append(repositories, parts[1])
		}
	}
	token, err := issueToken(s.key, canonicalHost(r.Host), user, repositories)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return user
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(tokenLifetime.Seconds())})
	return user
}

func basicChallenge(host string) string { return fmt.Sprintf("Basic realm=%q", host) }

func unauthorized(w http.ResponseWriter, challenge string) {
	w.Header().Set("WWW-Authenticate", challenge)
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
}
