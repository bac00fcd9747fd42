// Package auth says who asks: nobody in particular, or the holder of a token.
//
// A token is shown as the go command can: as the password of Basic (netrc,
// GOAUTH=git, userinfo of GOPROXY; the user name does not matter), or as a Bearer.
// Only the SHA-256 of a token is known here.
package auth

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/internal/access"
)

// Token is who may show a token, as it was written: New reads and checks every text
// in it.
type Token struct {
	// Line of the file that it begins on; 0: unknown.
	Line int
	// Name identifies the caller in logs: letters, digits, "-", "_", "." and "@".
	// Two tokens may have the same, so that one can take the place of the other.
	// Required.
	Name string
	// SHA256 of the token, 64 hex digits. Required, and unique.
	SHA256 string
	// Groups that rules may refer to.
	Groups []string
	// Expires is the last day that the token counts ("2027-01-31", in UTC), or an
	// instant (RFC 3339). Default: it does not expire.
	Expires string
}

// Config configures an Auth.
type Config struct {
	// Required refuses who shows no token. Otherwise they are anonymous, and in
	// no group. Who shows a wrong token is refused in any case: a group must not
	// be lost without a word.
	Required bool
	// Tokens that count. Default: none, so that every token is a wrong one.
	Tokens []Token
}

// Auth knows tokens. It is safe for concurrent use.
type Auth struct {
	required bool
	tokens   atomic.Pointer[map[[sha256.Size]byte]*token]
	asked    *prometheus.CounterVec
}

// token is a Token that has been read.
type token struct {
	sum    [sha256.Size]byte
	name   string
	groups []string
	until  time.Time // it counts before that; zero: for ever
}

// Results of looking at a request, as in metrics.
const (
	known     = "known"
	anonymous = "anonymous"
	missing   = "missing"
	wrong     = "wrong"
	expired   = "expired"
)

// New checks cfg and returns the Auth. All mistakes are reported at once, each that
// is about a token as a *policy.Mistake.
func New(cfg Config) (*Auth, error) {
	a := &Auth{
		required: cfg.Required,
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_auth_requests_total",
			Help: "Requests by what their token was: known, wrong, expired; without one, anonymous or, where one is required, missing.",
		}, []string{"result"}),
	}
	for _, result := range [...]string{known, anonymous, missing, wrong, expired} {
		a.asked.WithLabelValues(result)
	}
	return a, a.SetTokens(cfg.Tokens)
}

// SetTokens replaces the tokens, if there is nothing wrong with the new ones.
func (a *Auth) SetTokens(tokens []Token) error {
	table, err := compile(tokens)
	if err == nil {
		a.tokens.Store(&table)
	}
	return err
}

// Keep revokes the tokens whose SHA-256, in lower-case hex digits, is not in listed.
// It returns the names that they had, sorted. It must not run beside SetTokens.
func (a *Auth) Keep(listed map[string]bool) (revoked []string) {
	table := make(map[[sha256.Size]byte]*token)
	for sum, t := range *a.tokens.Load() {
		if listed[hex.EncodeToString(sum[:])] {
			table[sum] = t
		} else {
			revoked = append(revoked, t.name)
		}
	}
	a.tokens.Store(&table)
	slices.Sort(revoked)
	return revoked
}

// Collectors returns the metrics.
func (a *Auth) Collectors() []prometheus.Collector { return []prometheus.Collector{a.asked} }

// Handler finds out who asks, notes it in the access record of the request, which
// must stand in front, and lets next answer; or refuses with 401.
func (a *Auth) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, ok := w.(*access.Response)
		if !ok { // nobody would hear who it is
			http.Error(w, "no access record", http.StatusInternalServerError)
			return
		}
		t, result := a.look(r)
		a.asked.WithLabelValues(result).Inc()
		switch result {
		case known:
			resp.Caller, resp.Groups = t.name, t.groups
			// A cache in front must not give it to who shows no token.
			resp.Header()["Cache-Control"] = []string{"private, no-cache"}
		case anonymous:
		default:
			resp.Kind, resp.Outcome, resp.Err = "other", access.Denied, errors.New(result+" token")
			refuse(w, r, result)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// look says whose token r shows.
func (a *Auth) look(r *http.Request) (*token, string) {
	shown, ok := credential(r)
	if !ok {
		if a.required {
			return nil, missing
		}
		return nil, anonymous
	}
	// The table is by the hash of the token: how long a look into it takes says
	// nothing about any token.
	sum := sha256.Sum256([]byte(shown))
	t := (*a.tokens.Load())[sum]
	switch {
	case t == nil || subtle.ConstantTimeCompare(t.sum[:], sum[:]) == 0:
		return nil, wrong
	case !t.until.IsZero() && !time.Now().Before(t.until):
		return nil, expired
	}
	return t, known
}

// credential returns what r shows as a token. It is not to be logged.
func credential(r *http.Request) (string, bool) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", false
	}
	if user, password, ok := r.BasicAuth(); ok {
		return cmp.Or(password, user), true // https://TOKEN@host is common too
	}
	scheme, rest, _ := strings.Cut(header, " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest), true
	}
	return "", true // a scheme that nobody here knows is a wrong token
}

// refuse answers in a form that the go command prints.
func refuse(w http.ResponseWriter, r *http.Request, result string) {
	text := map[string]string{
		missing: "unauthorized: this server wants a token, and none came\n" +
			"do: ask who runs it for one, and put it into ~/.netrc: machine " + hostOf(r) + " login NAME password TOKEN\n" +
			"(the go command sends it to https:// addresses alone)\n",
		wrong: "unauthorized: this server does not know the token that came\n" +
			"do: look at the line for " + hostOf(r) + " in ~/.netrc, or ask who runs the server for a new token\n",
		expired: "unauthorized: the token that came has expired\n" +
			"do: ask who runs the server for a new one\n",
	}[result]
	h := w.Header()
	h.Set("WWW-Authenticate", `Basic realm="modgate", charset="UTF-8"`)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", fmt.Sprint(len(text)))
	w.WriteHeader(http.StatusUnauthorized)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(text))
	}
}

// hostOf is the name under which the client knows the server, port included, as
// netrc wants it.
func hostOf(r *http.Request) string {
	for _, c := range []byte(r.Host) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-.:[]_", c) >= 0:
		default:
			return "HOST"
		}
	}
	if r.Host == "" || len(r.Host) > 260 {
		return "HOST"
	}
	return r.Host
}

// Sum returns the SHA-256 of a token as Token.SHA256 has it.
func Sum(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
