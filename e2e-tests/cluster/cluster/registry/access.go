package registry

import (
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
)

// The ways in which a host asks who somebody is.
const (
	authNone   = "none"
	authBasic  = "basic"
	authBearer = "bearer"
)

// anonymous is the user name of a request without credentials.
const anonymous = ""

// Access is what one host accepts, and from whom. It is replaced as a whole,
// and holds from the next request on.
type Access struct {
	// Auth is none, basic or bearer.
	Auth string `json:"auth"`
	// Accounts maps user names to passwords.
	Accounts map[string]string `json:"accounts"`
	// Public are prefixes of repositories that anybody may pull.
	Public []string `json:"public"`
	// Repositories are prefixes of repositories that only some accounts may
	// pull. What is below none of them is for every account.
	Repositories map[string][]string `json:"repositories"`
	// Status, if not zero, is the HTTP status that answers every request.
	Status int `json:"status"`
}

func (a Access) validate() error {
	if a.Auth != authNone && a.Auth != authBasic && a.Auth != authBearer {
		return fmt.Errorf("auth is %q: it must be none, basic or bearer", a.Auth)
	}
	if a.Status != 0 && (a.Status < 400 || a.Status > 599) {
		return fmt.Errorf("status is %d: it must be an error, from 400 to 599", a.Status)
	}
	if _, ok := a.Accounts[anonymous]; ok {
		return fmt.Errorf("an account has no user name")
	}
	for prefix, users := range a.Repositories {
		for _, user := range users {
			if _, ok := a.Accounts[user]; !ok {
				return fmt.Errorf("repositories[%q] names %q, who has no account", prefix, user)
			}
		}
	}
	return nil
}

// knows says whether there is such an account with this password.
func (a Access) knows(user, password string) bool {
	expected, ok := a.Accounts[user]
	return ok && subtle.ConstantTimeCompare([]byte(expected), []byte(password)) == 1
}

// mayPull says whether a user, whose password was right, may pull.
func (a Access) mayPull(user, repository string) bool {
	if a.Auth == authNone || slices.ContainsFunc(a.Public, func(prefix string) bool { return covers(prefix, repository) }) {
		return true
	}
	if _, ok := a.Accounts[user]; !ok {
		return false
	}
	restricted := false
	for prefix, users := range a.Repositories {
		if covers(prefix, repository) {
			restricted = true
			if slices.Contains(users, user) {
				return true
			}
		}
	}
	return !restricted
}

// covers compares whole segments: acme covers acme/app, and not acmeco.
func covers(prefix, repository string) bool {
	return repository == prefix || strings.HasPrefix(repository, strings.TrimSuffix(prefix, "/")+"/")
}
