package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"image-pull-secrets/e2e-tests/cluster/cluster/registry"
)

// imageService is the image half of a container runtime. It pulls for real,
// from one registry that is every host, and keeps of an image what the kubelet
// asks about.
type imageService struct {
	node      string
	mount     string
	transport http.RoundTripper
	log       *registry.PullLog

	mu     sync.Mutex
	byID   map[string]*runtimeapi.Image
	byName map[string]string
}

// newImageService trusts what the authority in the file caFile signs.
func newImageService(node, mount, address, caFile string, log *registry.PullLog) (*imageService, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the registry's authority: %w", err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	var dialer net.Dialer
	return &imageService{
		node:  node,
		mount: mount,
		log:   log,
		transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			},
			TLSClientConfig: &tls.Config{RootCAs: trusted},
		},
		byID:   map[string]*runtimeapi.Image{},
		byName: map[string]string{},
	}, nil
}

// PullImage gives the image's ID. The pull is recorded when it returns.
func (s *imageService) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	begun := time.Now()
	image, err := s.pull(ctx, spec.GetImage(), auth)
	pull := registry.Pull{
		Node:      s.node,
		Namespace: sandbox.GetMetadata().GetNamespace(),
		Pod:       sandbox.GetMetadata().GetName(),
		Image:     spec.GetImage(),
		User:      auth.GetUsername(),
		Outcome:   outcome(err),
		At:        time.Now(),
		Seconds:   time.Since(begun).Seconds(),
	}
	if err != nil {
		pull.Message = err.Error()
	}
	if err := s.log.Add(pull); err != nil {
		klog.ErrorS(err, "A pull is not recorded", "image", pull.Image)
	}
	if err != nil {
		return "", err
	}
	return image.Id, nil
}

func (s *imageService) pull(ctx context.Context, image string, auth *runtimeapi.AuthConfig) (*runtimeapi.Image, error) {
	reference, err := name.ParseReference(image)
	if err != nil {
		return nil, err
	}
	credentials := authn.AuthConfig{
		Username:      auth.GetUsername(),
		Password:      auth.GetPassword(),
		Auth:          auth.GetAuth(),
		IdentityToken: auth.GetIdentityToken(),
		RegistryToken: auth.GetRegistryToken(),
	}
	if credentials.Username != "" && credentials.Password == "" {
		// A container runtime sends these too; the library wants them encoded.
		credentials.Auth = base64.StdEncoding.EncodeToString([]byte(credentials.Username + ":"))
	}
	pulled, err := remote.Image(reference,
		remote.WithContext(ctx),
		remote.WithTransport(s.transport),
		remote.WithAuth(authn.FromConfig(credentials)),
		// The kubelet is who tries again.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	)
	if err != nil {
		return nil, err
	}
	id, err := pulled.ConfigName()
	if err != nil {
		return nil, err
	}
	digest, err := pulled.Digest()
	if err != nil {
		return nil, err
	}
	layers, err := pulled.Layers()
	if err != nil {
		return nil, err
	}
	var size int64
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			return nil, err
		}
		read, err := io.Copy(io.Discard, content)
		if err := errors.Join(err, content.Close()); err != nil {
			return nil, err
		}
		size += read
	}
	return s.keep(reference, id.String(), digest.String(), uint64(size)), nil
}

func (s *imageService) keep(reference name.Reference, id, digest string, size uint64) *runtimeapi.Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	image := s.byID[id]
	if image == nil {
		image = &runtimeapi.Image{Id: id, Size: size, Spec: &runtimeapi.ImageSpec{Image: id}}
		s.byID[id] = image
	}
	if former := s.byName[reference.Name()]; former != id {
		s.byName[reference.Name()] = id
		image.RepoTags = append(image.RepoTags, reference.Name())
		image.RepoDigests = append(image.RepoDigests, reference.Context().Digest(digest).Name())
	}
	return image
}

// outcome sorts what a registry answered.
func outcome(err error) string {
	if err == nil {
		return registry.Pulled
	}
	var refusal *transport.Error
	if errors.As(err, &refusal) {
		switch refusal.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return registry.Refused
		case http.StatusNotFound:
			return registry.Absent
		}
	}
	return registry.Failed
}

// find takes an ID, or a name as people write it. It is called with the lock held.
func (s *imageService) find(image string) *runtimeapi.Image {
	if found := s.byID[image]; found != nil {
		return found
	}
	reference, err := name.ParseReference(image)
	if err != nil {
		return nil
	}
	return s.byID[s.byName[reference.Name()]]
}

// ImageStatus has no image for one that was not pulled.
func (s *imageService) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &runtimeapi.ImageStatusResponse{Image: copyOf(s.find(spec.GetImage()))}, nil
}

// ListImages knows no filter, and the kubelet uses none.
func (s *imageService) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*runtimeapi.Image
	for _, image := range s.byID {
		all = append(all, copyOf(image))
	}
	return all, nil
}

// copyOf gives what can be read without the lock.
func copyOf(image *runtimeapi.Image) *runtimeapi.Image {
	if image == nil {
		return nil
	}
	return &runtimeapi.Image{
		Id: image.Id, Size: image.Size, Spec: image.Spec,
		RepoTags:    append([]string{}, image.RepoTags...),
		RepoDigests: append([]string{}, image.RepoDigests...),
	}
}

// RemoveImage forgets an image; one that is not there is no error.
func (s *imageService) RemoveImage(_ context.Context, spec *runtimeapi.ImageSpec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if image := s.find(spec.GetImage()); image != nil {
		delete(s.byID, image.Id)
	}
	return nil
}

// ImageFsInfo says that images take no room.
func (s *imageService) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	usage := []*runtimeapi.FilesystemUsage{{
		Timestamp:  time.Now().UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: s.mount},
		UsedBytes:  &runtimeapi.UInt64Value{},
		InodesUsed: &runtimeapi.UInt64Value{},
	}}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: usage, ContainerFilesystems: usage}, nil
}

// Close has nothing to close.
func (s *imageService) Close(context.Context) error { return nil }
