package main

import (
	"github.com/distribution/reference"
	"k8s.io/kubernetes/pkg/util/parsers"
)

type normalizeAnswer struct {
	// Valid is whether the image name parses; Error says why not.
	Valid  bool   `json:"valid"`
	Error  string `json:"error,omitempty"`
	Name   string `json:"name"`
	Domain string `json:"domain"`
	Path   string `json:"path"`
	Tag    string `json:"tag"`
	Digest string `json:"digest"`
	// Kubelet is what the kubelet makes of it: the repository that credentials
	// are looked up for, and the default tag.
	Kubelet kubeletName `json:"kubelet"`
}

type kubeletName struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Digest     string `json:"digest"`
	Error      string `json:"error,omitempty"`
}

// normalize reads an image name as `docker pull` does, by distribution's
// reference package, and as the kubelet does on top of it.
func normalize(image string) normalizeAnswer {
	var answer normalizeAnswer
	var err error
	k := &answer.Kubelet
	k.Repository, k.Tag, k.Digest, err = parsers.ParseImageName(image)
	if err != nil {
		k.Error = err.Error()
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	answer.Valid = true
	answer.Name = named.Name()
	answer.Domain = reference.Domain(named)
	answer.Path = reference.Path(named)
	if tagged, ok := named.(reference.Tagged); ok {
		answer.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		answer.Digest = digested.Digest().String()
	}
	return answer
}
