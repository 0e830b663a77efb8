package main

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"
	"k8s.io/kubernetes/pkg/util/parsers"
)

// secret is a pull secret as a request gives it: the document as text, or as
// bytes in base64 where it is not UTF-8.
type secret struct {
	Type       string `json:"type"`
	Data       string `json:"data"`
	DataBase64 []byte `json:"dataBase64"`
}

type credential struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Email    string `json:"email"`
}

type lookupAnswer struct {
	// Parses is false where the kubelet would refuse to pull every image of a
	// Pod that names these secrets; Error then says why.
	Parses bool   `json:"parses"`
	Error  string `json:"error,omitempty"`
	// ImageError says why the image name is refused; nothing is looked up then.
	ImageError string `json:"imageError,omitempty"`
	// Used is false where the kubelet skips the secrets without a word: a wrong
	// type, a missing key, no bytes.
	Used  bool `json:"used"`
	Found bool `json:"found"`
	// Credentials in the order in which the kubelet tries them. Among entries
	// of one secret that normalise to the same key the order is random, as it
	// is in the kubelet, which walks a Go map.
	Credentials []credential `json:"credentials"`
}

var dataKeys = map[v1.SecretType]string{
	v1.SecretTypeDockerConfigJson: v1.DockerConfigJsonKey,
	v1.SecretTypeDockercfg:        v1.DockerConfigKey,
}

// lookup does what the kubelet's image manager does before a pull
// (pkg/kubelet/images/image_manager.go, makeLookupPullCredentialsFunc), on a
// node that has no credentials of its own.
func lookup(given []secret, image string) (lookupAnswer, error) {
	pullSecrets := make([]v1.Secret, 0, len(given))
	for _, s := range given {
		pullSecret, err := s.object()
		if err != nil {
			return lookupAnswer{}, err
		}
		pullSecrets = append(pullSecrets, pullSecret)
	}

	answer := lookupAnswer{Credentials: []credential{}}
	keyring, err := secrets.MakeDockerKeyring(pullSecrets, nil)
	if err != nil {
		answer.Error = err.Error()
	} else {
		answer.Parses = true
	}
	answer.Used = err != nil || keyring != nil
	repository, _, _, imageError := parsers.ParseImageName(image)
	if imageError != nil {
		answer.ImageError = imageError.Error()
	}
	if err != nil || imageError != nil || keyring == nil {
		return answer, nil
	}
	var tracked []credentialprovider.TrackedAuthConfig
	tracked, answer.Found = keyring.Lookup(repository)
	for _, t := range tracked {
		answer.Credentials = append(answer.Credentials, credential{t.Username, t.Password, t.Email})
	}
	return answer, nil
}

// object puts the document under the key that belongs to its type; a type that
// is no pull secret's gets both keys, as neither may be read.
func (s secret) object() (v1.Secret, error) {
	document := s.DataBase64
	if document == nil {
		document = []byte(s.Data)
	} else if s.Data != "" {
		return v1.Secret{}, fmt.Errorf("a secret has both data and dataBase64: give one")
	}
	secretType := v1.SecretType(s.Type)
	data := map[string][]byte{}
	if key, known := dataKeys[secretType]; known {
		data[key] = document
	} else {
		for _, key := range dataKeys {
			data[key] = document
		}
	}
	return v1.Secret{Type: secretType, Data: data}, nil
}

type matchAnswer struct {
	// Valid is whether the kubelet starts with this pattern in matchImages;
	// Error says why not.
	Valid bool   `json:"valid"`
	Error string `json:"error,omitempty"`
	// Repository is what the image is looked up as; empty with ImageError.
	Repository string `json:"repository"`
	ImageError string `json:"imageError,omitempty"`
	Matches    bool   `json:"matches"`
	// MatchError is a fault that the kubelet swallows while it matches, and
	// counts as no match: a malformed glob passes validation.
	MatchError string `json:"matchError,omitempty"`
}

// matchImages checks pattern as the kubelet checks matchImages when it starts
// and applies it as the kubelet does at each pull
// (pkg/credentialprovider/plugin, validateCredentialProviderConfig and
// isImageAllowed, which are these two calls).
func matchImages(pattern, image string) matchAnswer {
	answer := matchAnswer{Valid: true}
	if _, err := credentialprovider.ParseSchemelessURL(pattern); err != nil {
		answer.Valid, answer.Error = false, err.Error()
	}
	repository, _, _, err := parsers.ParseImageName(image)
	if err != nil {
		answer.ImageError = err.Error()
		return answer
	}
	answer.Repository = repository
	answer.Matches, err = credentialprovider.URLsMatchStr(pattern, repository)
	if err != nil {
		answer.MatchError = err.Error()
	}
	return answer
}
