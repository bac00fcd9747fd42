package doctor

import (
	"strings"
	"testing"
)

func TestCAA(t *testing.T) {
	us := asker{[]string{"ca.example"}, "http-01", "https://ca.example/acct/1"}
	record := func(tag, value string) caaRecord { return caaRecord{tag: tag, value: value} }
	for _, test := range []struct {
		name     string
		wildcard bool
		records  []caaRecord
		want     string // in the reason; "": none
	}{
		{"ours", false, []caaRecord{record("issue", "ca.example")}, ""},
		{"ours, written otherwise", false, []caaRecord{record("issue", " CA.Example ; ")}, ""},
		{"one of two", false, []caaRecord{record("issue", "other.example"), record("issue", "ca.example")}, ""},
		{"another's", false, []caaRecord{record("issue", "other.example")}, "names another"},
		{"nobody", false, []caaRecord{record("issue", ";")}, "names another"},
		{"reports only", false, []caaRecord{record("iodef", "mailto:a@b.example")}, ""},
		{"wildcards by issue", true, []caaRecord{record("issue", "ca.example")}, ""},
		{"wildcards apart", true, []caaRecord{record("issue", "ca.example"), record("issuewild", ";")}, "names another"},
		{"no wildcard", false, []caaRecord{record("issue", "ca.example"), record("issuewild", ";")}, ""},
		{"wildcards only", false, []caaRecord{record("issuewild", ";")}, ""},
		{"challenge", false, []caaRecord{record("issue", "ca.example; validationmethods=dns-01,http-01")}, ""},
		{"other challenge", false, []caaRecord{record("issue", "ca.example;validationmethods=dns-01")}, "other challenges than http-01"},
		{"account", false, []caaRecord{record("issue", "ca.example; accounturi=https://ca.example/acct/1")}, ""},
		{"other account", false, []caaRecord{record("issue", "ca.example; accounturi=https://ca.example/acct/2")}, "another account"},
		{"critical", false, []caaRecord{record("issue", "ca.example"), {true, "future", "x"}}, "is critical"},
		{"critical, but known", false, []caaRecord{{true, "issue", "ca.example"}}, ""},
	} {
		got := us.forbids(test.records, test.wildcard)
		if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if r, ok := parseCAA([]byte("\x80\x05issueca.example")); !ok || r.String() != `CAA 128 issue "ca.example"` {
		t.Errorf("%v, %v", r, ok)
	}
	for _, bad := range []string{"", "\x00", "\x00\x00", "\x00\x06issue"} {
		if _, ok := parseCAA([]byte(bad)); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzCAA(f *testing.F) {
	f.Add([]byte("\x80\x05issueca.example; a=b"), true)
	f.Add([]byte("\x00\x09issuewild;"), false)
	f.Fuzz(func(t *testing.T, data []byte, wildcard bool) {
		r, ok := parseCAA(data)
		if !ok {
			return
		}
		if len(r.tag) == 0 || len(r.tag)+len(r.value) > len(data) {
			// Invalid UTF-8 in a tag may grow by its lower case.
			if strings.ToLower(string(data)) == string(data) {
				t.Errorf("%q: %+v", data, r)
			}
		}
		asker{[]string{"ca.example"}, "dns-01", ""}.forbids([]caaRecord{r}, wildcard)
	})
}
