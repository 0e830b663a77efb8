package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	dockerConfigJSON = "kubernetes.io/dockerconfigjson"
	dockercfg        = "kubernetes.io/dockercfg"
)

// ask puts one request through the filter, as a differential test does.
func ask[Answer any](t *testing.T, asked map[string]any) Answer {
	t.Helper()
	line, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := serve(bytes.NewReader(line), &out); err != nil {
		t.Fatal(err)
	}
	var given Answer
	if err := json.Unmarshal(out.Bytes(), &given); err != nil {
		t.Fatalf("%s: %v", out.String(), err)
	}
	return given
}

func lookUp(t *testing.T, secretType, data, image string) lookupAnswer {
	t.Helper()
	return ask[lookupAnswer](t, map[string]any{"op": "lookup", "type": secretType, "data": data, "image": image})
}

// config has one entry for each registry, whose user name is the registry.
func config(registries ...string) string {
	auths := map[string]any{}
	for _, registry := range registries {
		auths[registry] = map[string]string{"username": registry, "password": "p"}
	}
	text, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestARegistryKeyCovers(t *testing.T) {
	for key, images := range map[string]struct{ covers, misses []string }{
		"r.io":                        {covers: []string{"r.io/x", "r.io/x/y:1"}, misses: []string{"r.io:443/x", "a.r.io/x", "R.io/x"}},
		"https://r.io/":               {covers: []string{"r.io/x"}, misses: []string{"r.io:443/x"}},
		"HTTPS://r.io":                {misses: []string{"r.io/x"}},
		"r.io/v1/":                    {covers: []string{"r.io/x"}},
		"r.io/v1":                     {covers: []string{"r.io/v1/x"}, misses: []string{"r.io/x"}},
		"r.io/v2/x":                   {covers: []string{"r.io/x"}, misses: []string{"r.io/v2/x"}},
		"r.io/x":                      {covers: []string{"r.io/x", "r.io/x/y", "r.io/xy"}, misses: []string{"r.io/y"}},
		"r.io/x/":                     {covers: []string{"r.io/x/y"}, misses: []string{"r.io/x"}},
		"user:password@r.io?query":    {covers: []string{"r.io/x"}},
		"r.io/%2578":                  {covers: []string{"r.io/x"}, misses: []string{"r.io/y"}},
		"*.r.io":                      {covers: []string{"a.r.io/x"}, misses: []string{"r.io/x", "a.b.r.io/x"}},
		"r.io:*":                      {misses: []string{"r.io:5000/x", "r.io/x"}},
		"[::1]:5000":                  {covers: []string{"[::1]:5000/x"}},
		"[::1]":                       {misses: []string{"[::1]/x"}},
		"":                            {misses: []string{"nginx", "r.io/x"}},
		"https://index.docker.io/v1/": {covers: []string{"nginx", "org/app", "index.docker.io/org/app", "localhost/x", "UPPER/x"}, misses: []string{"r.io/x", "localhost:5000/x"}},
		"index.docker.io":             {covers: []string{"nginx"}},
		"https://index.docker.io/v1":  {misses: []string{"nginx"}},
		"index.docker.io/org":         {misses: []string{"org/app"}},
		"docker.io":                   {covers: []string{"nginx", "org/app"}, misses: []string{"localhost/x"}},
		"docker.io/org":               {covers: []string{"org/app"}, misses: []string{"nginx"}},
		"registry-1.docker.io":        {covers: []string{"registry-1.docker.io/x"}, misses: []string{"nginx"}},
		"hub.docker.com":              {misses: []string{"nginx"}},
		"*.docker.io":                 {misses: []string{"nginx", "index.docker.io/org/app"}},
	} {
		for _, image := range images.covers {
			if !lookUp(t, dockerConfigJSON, config(key), image).Found {
				t.Errorf("%q must cover %s", key, image)
			}
		}
		for _, image := range images.misses {
			if lookUp(t, dockerConfigJSON, config(key), image).Found {
				t.Errorf("%q must not cover %s", key, image)
			}
		}
	}
}

func TestADocumentParses(t *testing.T) {
	entry := func(text string) string { return `{"auths":{"r.io":` + text + `}}` }
	auth := func(text string) string { return entry(fmt.Sprintf(`{"auth":%q}`, text)) }
	for name, c := range map[string]struct {
		document string
		parses   bool
		password string
	}{
		"without auths":                      {`{}`, true, ""},
		"null":                               {`null`, true, ""},
		"an array is none":                   {`[]`, false, ""},
		"trailing garbage is a fault":        {config("r.io") + "x", false, ""},
		"unknown fields are ignored":         {`{"auths":{"r.io":{"auth":"dTpw","x":[1]}},"credsStore":"x"}`, true, "p"},
		"HttpHeaders count":                  {`{"HttpHeaders":1}`, false, ""},
		"field names have no case":           {`{"AUTHS":{"r.io":{"Auth":"dTpw"}}}`, true, "p"},
		"an entry may be null":               {entry(`null`), true, ""},
		"an entry may not be a string":       {entry(`"x"`), false, ""},
		"auth may not be a number":           {entry(`{"auth":1}`), false, ""},
		"auth null is no auth":               {entry(`{"auth":null,"username":"a","password":"b"}`), true, "b"},
		"auth empty is no auth":              {entry(`{"auth":"","username":"a","password":"b"}`), true, "b"},
		"auth wins":                          {entry(`{"auth":"dTpw","username":"a","password":"b"}`), true, "p"},
		"a bad auth is not rescued":          {entry(`{"auth":"x","username":"a","password":"b"}`), false, ""},
		"one bad entry spoils the others":    {`{"auths":{"r.io":{"auth":"dTpw"},"q.io":{"auth":"x"}}}`, false, ""},
		"padded":                             {auth("dTpwcA=="), true, "pp"},
		"unpadded":                           {auth("dTpwcA"), true, "pp"},
		"half padded":                        {auth("dTpwcA="), false, ""},
		"padding where none is due":          {auth("dTpw="), false, ""},
		"trailing bits are ignored":          {auth("dTpwcB=="), true, "pp"},
		"newlines are ignored":               {auth("dTpw\ncA=\r\n=\n"), true, "pp"},
		"a blank is not":                     {auth("dTpw "), false, ""},
		"base64url is not base64":            {auth("dTr7__4="), false, ""},
		"no colon":                           {auth("bm9jb2xvbg=="), false, ""},
		"the first colon divides":            {auth("dTpwOnE="), true, "p:q"},
		"the last of equal registries wins":  {`{"auths":{"r.io":{"auth":"dTpw"},"r.io":{"password":"b"}}}`, true, "b"},
		"two auths are merged":               {`{"auths":{"r.io":{"auth":"dTpw"}},"auths":{"q.io":{}}}`, true, "p"},
		"a replaced entry must be valid too": {`{"auths":{"r.io":{"auth":"x"},"r.io":{"auth":"dTpw"}}}`, false, ""},
	} {
		given := lookUp(t, dockerConfigJSON, c.document, "r.io/x")
		if given.Parses != c.parses {
			t.Errorf("%s: parses is %t (%s)", name, given.Parses, given.Error)
		}
		if (given.Error == "") != c.parses {
			t.Errorf("%s: the error is %q", name, given.Error)
		}
		password := ""
		if len(given.Credentials) > 0 {
			password = given.Credentials[0].Password
		}
		if password != c.password {
			t.Errorf("%s: the password is %q, expected %q", name, password, c.password)
		}
	}
}

func TestBytesThatAreNotTextAreGivenInBase64(t *testing.T) {
	document := "{\"auths\":{\"r.io\":{\"auth\":\"dTpw\",\"email\":\"\xff\"}}}"
	given := ask[lookupAnswer](t, map[string]any{
		"op": "lookup", "type": dockerConfigJSON, "image": "r.io/x",
		"dataBase64": base64.StdEncoding.EncodeToString([]byte(document)),
	})
	if !given.Found || given.Credentials[0] != (credential{"u", "p", "\uFFFD"}) {
		t.Fatal(given)
	}
}

func TestASecretOfTheWrongTypeOrWithoutBytesIsIgnored(t *testing.T) {
	for name, given := range map[string]lookupAnswer{
		"Opaque":                       lookUp(t, "Opaque", config("r.io"), "r.io/x"),
		"Opaque and malformed":         lookUp(t, "Opaque", "{", "r.io/x"),
		"no bytes":                     lookUp(t, dockerConfigJSON, "", "r.io/x"),
		"no bytes in the legacy type":  lookUp(t, dockercfg, "", "r.io/x"),
		"a type with another spelling": lookUp(t, "kubernetes.io/dockerConfigJSON", config("r.io"), "r.io/x"),
	} {
		if !given.Parses || given.Used || given.Found {
			t.Errorf("%s: %+v", name, given)
		}
	}
}

func TestTheLegacyTypeHasNoAuthsLevel(t *testing.T) {
	if given := lookUp(t, dockercfg, `{"r.io":{"auth":"dTpw"}}`, "r.io/x"); !given.Found {
		t.Error(given)
	}
	if given := lookUp(t, dockercfg, config("r.io"), "r.io/x"); !given.Parses || given.Found {
		t.Error(given)
	}
}

func TestCredentialsComeInReverseOrderOfTheirKeys(t *testing.T) {
	given := lookUp(t, dockerConfigJSON, config("*.r.io", "a.r.io", "a.r.io/x", "a.*.io", "b.r.io", "*.*.*/x"), "a.r.io/x/y")
	users := []string{}
	for _, c := range given.Credentials {
		users = append(users, c.Username)
	}
	if expected := []string{"a.r.io/x", "a.r.io", "a.*.io", "*.r.io", "*.*.*/x"}; !slices.Equal(users, expected) {
		t.Fatal(users)
	}
}

func TestTheSecretsOfAPodAreOneKeyring(t *testing.T) {
	several := func(documents ...string) lookupAnswer {
		secrets := []map[string]string{}
		for _, document := range documents {
			secrets = append(secrets, map[string]string{"type": dockerConfigJSON, "data": document})
		}
		return ask[lookupAnswer](t, map[string]any{"op": "lookup", "secrets": secrets, "image": "nginx"})
	}
	if given := several(config("docker.io"), config("index.docker.io")); len(given.Credentials) != 1 || given.Credentials[0].Username != "docker.io" {
		t.Errorf("a direct match in one Secret hides Docker Hub's entry in another: %+v", given)
	}
	if given := several(config("docker.io"), config("docker.io/library")); len(given.Credentials) != 2 || given.Credentials[0].Username != "docker.io/library" {
		t.Errorf("the key decides the order, not the Secret: %+v", given)
	}
	if given := several(config("docker.io"), "{"); given.Parses || given.Found {
		t.Errorf("one malformed Secret spoils the others: %+v", given)
	}
}

func TestAnImageNameIsNormalisedAsDockerPullDoes(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for image, expected := range map[string]normalizeAnswer{
		"nginx":                            {Name: "docker.io/library/nginx", Domain: "docker.io", Path: "library/nginx"},
		"nginx:1@" + digest:                {Name: "docker.io/library/nginx", Domain: "docker.io", Path: "library/nginx", Tag: "1", Digest: digest},
		"index.docker.io/org/app":          {Name: "docker.io/org/app", Domain: "docker.io", Path: "org/app"},
		"Docker.io/nginx":                  {Name: "Docker.io/nginx", Domain: "Docker.io", Path: "nginx"},
		"localhost/x":                      {Name: "localhost/x", Domain: "localhost", Path: "x"},
		"localhost:5000":                   {Name: "docker.io/library/localhost", Domain: "docker.io", Path: "library/localhost", Tag: "5000"},
		"r.io:5000/x":                      {Name: "r.io:5000/x", Domain: "r.io:5000", Path: "x"},
		"a_b.io/x":                         {Name: "a_b.io/x", Domain: "", Path: "a_b.io/x"},
		"r.io/" + strings.Repeat("a", 255): {Name: "r.io/" + strings.Repeat("a", 255), Domain: "r.io", Path: strings.Repeat("a", 255)},
	} {
		given := ask[normalizeAnswer](t, map[string]any{"op": "normalize", "image": image})
		if given.Kubelet.Repository != expected.Name || (given.Kubelet.Tag == "latest") != (expected.Tag == "" && expected.Digest == "") {
			t.Errorf("%s is %+v to the kubelet", image, given.Kubelet)
		}
		expected.Valid, expected.Kubelet = true, given.Kubelet
		if given != expected {
			t.Errorf("%s is %+v, expected %+v", image, given, expected)
		}
	}
}

func TestAnImageNameIsRefused(t *testing.T) {
	for _, image := range []string{
		"", "/x", "x/", "r.io//x", " x", "x\n", "https://r.io/x", "a/B", "r.io/x:", "r.io/x@sha256:abc", "r.io/x___y", "r.io/x..y",
		strings.Repeat("a", 64), "r.io/" + strings.Repeat("a", 256), "x@md5:" + strings.Repeat("a", 32), "x@sha256:" + strings.Repeat("A", 64),
	} {
		given := ask[normalizeAnswer](t, map[string]any{"op": "normalize", "image": image})
		if given.Valid || given.Error == "" || given.Kubelet.Error == "" {
			t.Errorf("%q: %+v", image, given)
		}
		if lookup := lookUp(t, dockerConfigJSON, config("r.io", "docker.io"), image); lookup.Found || lookup.ImageError == "" {
			t.Errorf("%q: %+v", image, lookup)
		}
	}
}

func TestAMatchImagesPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, image string
		valid, matches bool
	}{
		{"r.io", "r.io/x", true, true},
		{"r.io/", "r.io/x", true, true},
		{"r.io", "r.io:5000/x", true, false},
		{"*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com/x", true, true},
		{"docker.io", "nginx", true, true},
		{"index.docker.io", "nginx", true, false},
		{"https://r.io", "r.io/x", true, false},
		{"r.io/v1/", "r.io/x", true, false},
		{"", "r.io/x", true, false},
		{"r.io:*", "r.io:5000/x", false, false},
		{"r.io/%zz", "r.io/x", false, false},
		{" r.io", "r.io/x", false, false},
		{"[r].io", "r.io/x", false, false},
	} {
		given := ask[matchAnswer](t, map[string]any{"op": "matchImages", "pattern": c.pattern, "image": c.image})
		if given.Valid != c.valid || given.Matches != c.matches {
			t.Errorf("%q on %s: %+v", c.pattern, c.image, given)
		}
	}
}

func TestARequestThatMakesNoSenseEndsTheFilter(t *testing.T) {
	for request, message := range map[string]string{
		`{"op":"guess"}`:              `line 1: unknown op "guess": use lookup, matchImages or normalize`,
		`{"op":"normalize","imag":1}`: `line 1: not a request: json: unknown field "imag"`,
		`{"op":"lookup","data":"x","dataBase64":"eA==","image":"x"}`: "line 1: a secret has both data and dataBase64: give one",
	} {
		err := serve(strings.NewReader(request), &bytes.Buffer{})
		if err == nil || err.Error() != message {
			t.Errorf("%s: %v", request, err)
		}
	}
}
