package upstream

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxRefs bounds what a repository may say about its tags and branches.
const maxRefs = 64 << 20

// refs are the tags and branches of a repository at some time.
type refs struct {
	hash   map[string]string // by name: HEAD, refs/heads/…, refs/tags/…; and <tag>^{} for what an annotated one stands for
	digest string
	head   string    // the branch that HEAD stands for, if the server says so
	asked  time.Time // before the answer
}

// about returns the refs without the tags that cannot mean version. The go
// command would fetch the newest release for what that retracts, although a
// version that was asked for exactly is what it is. All refs if version is
// empty.
func (r *refs) about(version string) *refs {
	if version == "" {
		return r
	}
	only := *r
	only.hash = r.versionTags(version)
	for name, hash := range r.hash {
		if !strings.HasPrefix(name, "refs/tags/") {
			only.hash[name] = hash
		}
	}
	return &only
}

// versionTags returns the tags that can mean a version: those that have it as
// their last element.
func (r *refs) versionTags(version string) map[string]string {
	version, _ = strings.CutSuffix(version, "+incompatible")
	out := make(map[string]string)
	for name, hash := range r.hash {
		if tag, ok := strings.CutPrefix(strings.TrimSuffix(name, "^{}"), "refs/tags/"); ok && (tag == version || strings.HasSuffix(tag, "/"+version)) {
			out[name] = hash
		}
	}
	return out
}

// promise are refs that are being asked for.
type promise struct {
	done chan struct{} // closed when the rest is final
	refs *refs
	err  error
}

// promised returns refs that are known.
func promised(r *refs) *promise {
	p := &promise{done: make(chan struct{}), refs: r}
	close(p.done)
	return p
}

func (p *promise) get(ctx context.Context) (*refs, error) {
	select {
	case <-p.done:
		return p.refs, p.err
	case <-ctx.Done():
		return nil, explained(context.Cause(ctx), "")
	}
}

// onError calls do if the refs cannot be had, until the result is called.
func (p *promise) onError(do func(error)) (stop func()) {
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-p.done:
			if p.err != nil {
				do(p.err)
			}
		case <-over:
		}
	})
	return func() {
		close(over)
		watching.Wait()
	}
}

// hasVersion reports whether a tag could name the version: it has the version
// as its last element.
func (r *refs) hasVersion(version string) bool {
	version, _ = strings.CutSuffix(version, "+incompatible")
	if r.hash["refs/tags/"+version] != "" {
		return true
	}
	for name := range r.hash {
		if tag, ok := strings.CutPrefix(name, "refs/tags/"); ok && strings.HasSuffix(tag, "/"+version) {
			return true
		}
	}
	return false
}

// parseRefs understands the first answer of git-upload-pack in version 0 of
// its protocol (gitprotocol-pack(5), "Reference Discovery"), after the
// announcement that HTTP puts in front (gitprotocol-http(5)). It reads to the
// flush packet that ends the list.
func parseRefs(r io.Reader) (*refs, error) {
	in := bufio.NewReader(io.LimitReader(r, maxRefs))
	out := &refs{hash: make(map[string]string)}
	for first := true; ; first = false {
		line, kind, err := readPacket(in)
		if err != nil {
			return nil, err
		}
		if kind != dataPacket {
			break
		}
		if first && strings.HasPrefix(line, "# service=") {
			if _, kind, err := readPacket(in); err != nil || kind != flushPacket {
				return nil, errors.New("no end after the announcement of the service")
			}
			continue
		}
		if message, ok := strings.CutPrefix(line, "ERR "); ok {
			return nil, fmt.Errorf("the server says %q", oneLine(message, 200))
		}
		line, capabilities, _ := strings.Cut(line, "\x00")
		for c := range strings.FieldsSeq(capabilities) {
			if branch, ok := strings.CutPrefix(c, "symref=HEAD:"); ok {
				out.head = branch
			}
		}
		hash, name, ok := strings.Cut(line, " ")
		if !ok || !isHash(hash) {
			if strings.HasPrefix(line, "version ") || strings.HasPrefix(line, "shallow ") {
				continue
			}
			return nil, fmt.Errorf("not a list of refs: %q", oneLine(line, 60))
		}
		if name == "HEAD" || strings.HasPrefix(name, "refs/heads/") || strings.HasPrefix(name, "refs/tags/") {
			out.hash[name] = hash
		}
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(out.hash)) {
		fmt.Fprintf(sum, "%s %s\n", out.hash[name], name)
	}
	out.digest = string(sum.Sum(nil))
	return out, nil
}

// isHash reports whether s is a SHA-1 or SHA-256 in hexadecimal.
func isHash(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// Kinds of packets.
type packet uint8

const (
	dataPacket packet = iota
	flushPacket
	otherPacket // delimiter and end of an answer
)

// readPacket reads one packet (gitprotocol-common(5), "pkt-line Format";
// gitprotocol-v2(5), "Packet-Line Framing"), without the end of its line.
func readPacket(r *bufio.Reader) (line string, kind packet, err error) {
	data, kind, err := readPacketRaw(r)
	return strings.TrimSuffix(string(data), "\n"), kind, err
}

func readPacketRaw(r *bufio.Reader) (data []byte, kind packet, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, 0, fmt.Errorf("git protocol: %w", noEOF(err))
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("not the git protocol: %q", oneLine(string(head[:]), 20))
	case n == 0:
		return nil, flushPacket, nil
	case n < 4:
		return nil, otherPacket, nil
	}
	data = make([]byte, n-4)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, 0, fmt.Errorf("git protocol: %w", noEOF(err))
	}
	return data, dataPacket, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// lock is a mutex that a context can stop waiting for.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	default:
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l lock) unlock() { <-l }

// tagHashes returns what a local tag may point at, by the tag's name: the
// annotation, or what it stands for.
func (r *refs) tagHashes(tag string) (annotation, target string) {
	return r.hash["refs/tags/"+tag], r.hash["refs/tags/"+tag+"^{}"]
}
