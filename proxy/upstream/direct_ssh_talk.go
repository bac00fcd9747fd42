package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// version2 is how git asks for that version of its protocol.
const version2 = "version=2"

// uploadPack is the only command that is run on a host.
func uploadPack(u *url.URL) string {
	path := u.Path
	if strings.HasPrefix(path, "/~") {
		path = path[1:]
	}
	return "git-upload-pack " + shellQuote(path)
}

// refs asks a repository for its tags and branches and, if both is set, also
// what its host can do, nil unless that speaks version 2 of the protocol.
func (p *sshPool) refs(ctx context.Context, u *url.URL, both bool) (out *refs, caps []byte, err error) {
	err = p.run(ctx, u, "", func(in io.WriteCloser, stdout io.Reader) (err error) {
		if out, err = parseRefs(stdout); err != nil {
			return err
		}
		_, _ = io.WriteString(in, "0000") // nothing is wanted
		return in.Close()
	})
	if err != nil || !both {
		return out, nil, err
	}
	_ = p.run(ctx, u, version2, func(in io.WriteCloser, stdout io.Reader) (err error) {
		caps, err = readRequest(bufio.NewReader(io.LimitReader(stdout, maxCapabilities)))
		return errors.Join(err, in.Close())
	})
	if !isVersion2(caps) {
		caps = nil // the host speaks version 0, or sends nothing about it: git's own ssh can do that
	}
	return out, caps, nil
}

// request has the host of a job's repository answer one request of version 2.
func (p *sshPool) request(w io.Writer, j *job, request []byte) error {
	out := &writeError{w: w}
	err := p.run(j.ctx, j.place.url, version2, func(in io.WriteCloser, stdout io.Reader) error {
		from := bufio.NewReader(stdout)
		if caps, err := readRequest(from); err != nil || !isVersion2(caps) {
			return fmt.Errorf("no longer version 2 of the protocol: %w", err)
		}
		if _, err := in.Write(request); err != nil {
			return err
		}
		if err := in.Close(); err != nil {
			return err
		}
		_, err := io.Copy(out, j.counted(from))
		return err
	})
	if out.err != nil {
		return out.err
	}
	return err
}

// run runs git-upload-pack for talk, and says in our words what was wrong.
func (p *sshPool) run(ctx context.Context, u *url.URL, protocol string, talk func(in io.WriteCloser, out io.Reader) error) error {
	s, done, err := p.session(ctx, u)
	if err != nil {
		return explained(err, u.Host)
	}
	defer done()
	defer s.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := &watch{window: p.d.cfg.NoProgress, ctx: ctx, cancel: cancel}
	quiet.timer = time.AfterFunc(quiet.window, func() { cancel(tooSlow("nothing came for " + quiet.window.String())) })
	defer quiet.stop()
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	var said limitedText
	s.Stderr = &said
	in, err := s.StdinPipe()
	if err != nil {
		return explained(err, u.Host)
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return explained(err, u.Host)
	}
	if protocol != "" {
		_ = s.Setenv("GIT_PROTOCOL", protocol) // many hosts do not accept it, and none needs it
	}
	if err := s.Start(uploadPack(u)); err != nil {
		return explained(err, u.Host)
	}
	err = talk(in, &watchedBody{ReadCloser: io.NopCloser(out), watch: quiet})
	if cause := context.Cause(ctx); cause != nil {
		return explained(cause, u.Host)
	}
	if err == nil {
		return nil
	}
	_ = in.Close()
	_ = s.Wait() // for what it says
	if e := refusal(said.String(), u); e != nil {
		return e
	}
	return explained(fmt.Errorf("%w (it says %q)", err, said.String()), u.Host)
}

// refusal says what the text means with which a host ends git-upload-pack.
func refusal(text string, u *url.URL) error {
	low := strings.ToLower(text)
	for _, s := range []string{"not found", "could not be found", "does not exist", "does not appear to be a git repository"} {
		if strings.Contains(low, s) {
			return troubled(noRepository, errors.New(text), "%s has no such repository, or none that modgate may see", u.Host)
		}
	}
	for _, s := range []string{"permission", "denied", "not authorized", "unauthorized", "access"} {
		if strings.Contains(low, s) {
			return troubled(unauthorized, errors.New(text), "%s does not let the configured SSH key read the repository", u.Host)
		}
	}
	return nil
}

// limitedText keeps the beginning of what is written.
type limitedText struct {
	mu   sync.Mutex
	text []byte
}

func (l *limitedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p[:min(len(p), 2000-len(l.text))]...)
	return len(p), nil
}

func (l *limitedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return oneLine(string(l.text), 2000)
}

// bridge connects git with the host of the job's repository.
func (p *sshPool) bridge(w http.ResponseWriter, r *http.Request, j *job) {
	if j.place.url.Scheme != "ssh" || !strings.HasPrefix(r.Header.Get("Modgate-Command"), "git-upload-pack ") {
		http.Error(w, "the guard runs no other commands", http.StatusForbidden)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no connection", http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	var copied sync.WaitGroup
	err = p.run(j.ctx, j.place.url, r.Header.Get("Git-Protocol"), func(in io.WriteCloser, out io.Reader) error {
		copied.Go(func() {
			_, _ = io.Copy(in, buffered)
			_ = in.Close()
		})
		_, err := io.Copy(conn, j.counted(out))
		return err
	})
	if err != nil {
		j.fail(err)
	}
	_ = conn.Close()
	copied.Wait()
}
