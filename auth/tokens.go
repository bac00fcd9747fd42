package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/modgate/modgate/policy"
)

// prefix begins every token that NewToken makes: scanners for secrets in
// repositories look for such words.
const prefix = "modgate_"

// NewToken returns a token with 128 random bits or more.
func NewToken() string { return prefix + rand.Text() }

// compiler reads tokens and gathers what is wrong with them.
type compiler struct {
	found []error
	line  int // of the token at hand
}

func (c *compiler) wrong(path, problem, advice string) {
	c.found = append(c.found, &policy.Mistake{Line: c.line, Path: path, Problem: problem, Advice: advice})
}

// compile reads tokens into a table by their hash.
func compile(tokens []Token) (map[[sha256.Size]byte]*token, error) {
	c := &compiler{}
	table := make(map[[sha256.Size]byte]*token)
	lines := make(map[[sha256.Size]byte]int)
	for i, t := range tokens {
		c.line = t.Line
		at := fmt.Sprintf("tokens[%d]", i)
		out := c.token(at, t)
		if line, twice := lines[out.sum]; twice && out.sum != [sha256.Size]byte{} {
			c.wrong(at+".sha256", fmt.Sprintf("this is also the token in line %d", line), "give each its own")
		}
		lines[out.sum] = t.Line
		table[out.sum] = out
	}
	return table, errors.Join(c.found...)
}

// token reads one token.
func (c *compiler) token(at string, t Token) *token {
	out := &token{name: t.Name, groups: t.Groups}
	if !isName(t.Name) {
		c.wrong(at+".name", fmt.Sprintf("%.40q is not a name", t.Name), "write up to 60 letters, digits, -, _, . or @")
	}
	sum, err := hex.DecodeString(t.SHA256)
	switch {
	case err != nil || len(sum) != sha256.Size:
		// What stands there may be the token itself.
		c.wrong(at+".sha256", "this is not the SHA-256 of a token", "write 64 hex digits, as modgate auth token prints them, and never the token")
	case [sha256.Size]byte(sum) == sha256.Sum256(nil):
		c.wrong(at+".sha256", "this is the SHA-256 of nothing", "make a token with modgate auth token")
	default:
		out.sum = [sha256.Size]byte(sum)
	}
	for i, g := range t.Groups {
		if !isName(g) {
			c.wrong(fmt.Sprintf("%s.groups[%d]", at, i), fmt.Sprintf("%.40q is not a group", g), "write up to 60 letters, digits, -, _, . or @")
		}
	}
	if t.Expires != "" {
		out.until = c.date(at+".expires", t.Expires)
	}
	return out
}

// date is endOf for text that stands at a place of the file.
func (c *compiler) date(at, text string) time.Time {
	end, err := endOf(text)
	if err != nil {
		c.wrong(at, fmt.Sprintf("%.40q is not a day", text), "write it as 2027-01-31")
	}
	return end
}

// endOf returns the first moment after a day, or an instant.
func endOf(text string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	return time.Parse(time.RFC3339, text)
}

// Expired reports whether t counts no more at a moment. A token whose Expires
// cannot be read has not expired: New reports it.
func (t Token) Expired(now time.Time) bool {
	end, err := endOf(t.Expires)
	return err == nil && !now.Before(end)
}

// isName reports whether s can stand in a log line without quotes, and as a word in
// netrc.
func isName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '@':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 60
}
