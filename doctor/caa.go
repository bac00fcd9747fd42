package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// caaRecord is a record that says which CA may sign for a name (RFC 8659, 4.1).
type caaRecord struct {
	critical   bool
	tag, value string
}

// String returns the record as zone files have it.
func (r caaRecord) String() string {
	flags := 0
	if r.critical {
		flags = 128
	}
	return fmt.Sprintf("CAA %d %s %q", flags, r.tag, r.value)
}

// parseCAA reads the data of a record: flags, the length of the tag, the tag,
// the value.
func parseCAA(data []byte) (caaRecord, bool) {
	if len(data) < 2 || int(data[1]) == 0 || len(data) < 2+int(data[1]) {
		return caaRecord{}, false
	}
	tag := data[2 : 2+int(data[1])]
	return caaRecord{data[0]&128 != 0, strings.ToLower(string(tag)), string(data[2+len(tag):])}, true
}

// caaOf returns the records that count for a name, and at which name they are:
// its own, else those of the nearest name above that has any (RFC 8659, 3).
func (c *dns) caaOf(ctx context.Context, servers []string, name string) (at string, records []caaRecord, err error) {
	for at = name; at != ""; at = parent(at) {
		m, err := c.ask(ctx, servers, at, typeCAA)
		if err != nil {
			return at, nil, err
		}
		for _, r := range m.Answers {
			body, ok := r.Body.(*dnsmessage.UnknownResource)
			if !ok || body.Type != typeCAA {
				continue
			}
			if record, ok := parseCAA(body.Data); ok {
				records = append(records, record)
			}
		}
		if len(records) > 0 {
			return at, records, nil
		}
	}
	return "", nil, nil
}

// asker is a CA and the account that a certificate is asked for by.
type asker struct {
	identities []string // names of the CA in CAA records
	challenge  string
	account    string // URL; "": not known
}

// forbids says why the records do not let the CA sign, or "".
func (a asker) forbids(records []caaRecord, wildcard bool) string {
	tag := "issue"
	if wildcard && slices.ContainsFunc(records, func(r caaRecord) bool { return r.tag == "issuewild" }) {
		tag = "issuewild"
	}
	for _, r := range records {
		if r.critical && !slices.Contains([]string{"issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"}, r.tag) {
			return r.String() + " is critical, and no CA may sign that does not know it"
		}
	}
	var reasons []string
	for _, r := range records {
		if r.tag != tag {
			continue
		}
		reason := a.differs(r)
		if reason == "" {
			return ""
		}
		reasons = append(reasons, reason)
	}
	return strings.Join(reasons, "; ") // none of that tag: everybody may
}

// differs says why a record is not about us, or "".
func (a asker) differs(r caaRecord) string {
	issuer, parameters, _ := strings.Cut(r.value, ";")
	issuer = strings.TrimSpace(issuer)
	if !slices.ContainsFunc(a.identities, func(id string) bool { return strings.EqualFold(id, issuer) }) {
		return r.String() + " names another"
	}
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		switch strings.TrimSpace(name) { // RFC 8657
		case "validationmethods":
			if !slices.Contains(strings.Split(strings.ReplaceAll(value, " ", ""), ","), a.challenge) {
				return r.String() + " allows other challenges than " + a.challenge
			}
		case "accounturi":
			if a.account != "" && strings.TrimSpace(value) != a.account {
				return r.String() + " is for another account than " + a.account
			}
		}
	}
	return ""
}
