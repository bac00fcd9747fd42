package upstream

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// maxRequest bounds a request of git that is read as a whole. Only one with
// very many refs or objects is longer, and that is passed on as it is.
const maxRequest = 1 << 20

// maxCapabilities bounds the announcement of a server. It is a few hundred
// bytes.
const maxCapabilities = 16 << 10

// answer serves git from what is known of the repository since a moment ago:
// what the server can do, and its refs. Each run of the go command asks for
// them several times, and each time costs a visit. It reports whether it did;
// if not, r can still be passed on.
func (g *guard) answer(w http.ResponseWriter, r *http.Request, j *job) bool {
	if j.refs == nil || !strings.Contains(r.Header.Get("Git-Protocol"), "version=2") {
		return false
	}
	if announce(r) {
		caps := j.repo.capabilities()
		if caps == nil {
			return false
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		_, _ = w.Write(caps)
		return true
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), r.Body), r.Body}
	if err != nil || len(body) == maxRequest {
		return false
	}
	var plain io.Reader = bytes.NewReader(body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		if plain, err = gzip.NewReader(plain); err != nil {
			return false
		}
	}
	prefixes, ok := parseListRefs(io.LimitReader(plain, maxRequest))
	if !ok {
		return false
	}
	known, err := j.refsForGit(r.Context())
	if err != nil {
		j.fail(err)
		http.Error(w, "modgate: "+err.Error(), http.StatusBadGateway)
		return true
	}
	w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
	_, _ = w.Write(known.about(j.only).answer(prefixes))
	return true
}

// parseListRefs understands a request of the command ls-refs
// (gitprotocol-v2(5)) that wants everything to be told about refs, as those of
// git ls-remote and git fetch do. It returns the prefixes of the names that
// are wanted; none means all.
func parseListRefs(r io.Reader) (prefixes []string, ok bool) {
	in := bufio.NewReader(r)
	first, peel := true, false
	for {
		line, kind, err := readPacket(in)
		if err != nil || first && line != "command=ls-refs" {
			return nil, false
		}
		first = false
		switch prefix, isPrefix := strings.CutPrefix(line, "ref-prefix "); {
		case kind == flushPacket:
			return prefixes, peel
		case isPrefix:
			prefixes = append(prefixes, prefix)
		case line == "peel":
			peel = true
		}
	}
}

// answer is that of a server to ls-refs.
func (r *refs) answer(prefixes []string) []byte {
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(r.hash)) {
		if strings.HasSuffix(name, "^{}") || len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		line := r.hash[name] + " " + name
		if name == "HEAD" && r.head != "" {
			line += " symref-target:" + r.head
		}
		if target := r.hash[name+"^{}"]; target != "" {
			line += " peeled:" + target
		}
		fmt.Fprintf(&out, "%04x%s\n", len(line)+5, line)
	}
	out.WriteString("0000")
	return out.Bytes()
}

func (r *repository) capabilities() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.caps
}

// forgetCapabilities is for when a visit failed: the host may be another now.
func (r *repository) forgetCapabilities() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.caps = nil
}

// learnCapabilities keeps what is read, if it is the announcement of version 2
// of the protocol.
func (r *repository) learnCapabilities(body io.Reader) io.Reader {
	return &listening{Reader: body, repo: r}
}

type listening struct {
	io.Reader
	repo  *repository
	heard []byte
}

func (l *listening) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if len(l.heard) <= maxCapabilities {
		l.heard = append(l.heard, p[:n]...)
	}
	if err == io.EOF && len(l.heard) <= maxCapabilities && isVersion2(l.heard) {
		l.repo.mu.Lock()
		l.repo.caps = l.heard
		l.repo.mu.Unlock()
	}
	return n, err
}

// isVersion2 reports whether an announcement is complete and of version 2.
func isVersion2(data []byte) bool {
	in := bufio.NewReader(bytes.NewReader(data))
	line, kind, err := readPacket(in)
	if err == nil && strings.HasPrefix(line, "# service=") {
		if _, kind, err = readPacket(in); err != nil || kind != flushPacket {
			return false
		}
		line, kind, err = readPacket(in)
	}
	if err != nil || kind != dataPacket || line != "version 2" {
		return false
	}
	for err == nil && kind == dataPacket {
		_, kind, err = readPacket(in)
	}
	_, end := in.ReadByte()
	return err == nil && kind == flushPacket && end == io.EOF
}
