package registry

import (
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokenLifetime is what the large public registries give.
const tokenLifetime = 5 * time.Minute

// claims are what a bearer token says: who may do what at which host (the
// issuer). The key that signs it lives as long as the process.
type claims struct {
	jwt.RegisteredClaims
	Access []tokenAccess `json:"access"`
}

type tokenAccess struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func issueToken(key []byte, host, user string, repositories []string) (string, error) {
	now := time.Now()
	said := claims{RegisteredClaims: jwt.RegisteredClaims{
		Issuer:    host,
		Subject:   user,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(tokenLifetime)),
	}}
	for _, repository := range repositories {
		said.Access = append(said.Access, tokenAccess{"repository", repository, []string{"pull"}})
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, said).SignedString(key)
}

// readToken gives the user and the repositories of a token of this host.
func readToken(key []byte, host, token string) (user string, repositories []string, err error) {
	var said claims
	_, err = jwt.ParseWithClaims(token, &said, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithIssuer(host), jwt.WithExpirationRequired(), jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Name}))
	for _, access := range said.Access {
		repositories = append(repositories, access.Name)
	}
	return said.Subject, repositories, err
}
