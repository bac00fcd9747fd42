package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/internal/ziphash"
)

func warmCommand(p *process) *cobra.Command {
	var address, token string
	var concurrency int
	cmd := &cobra.Command{
		Use:   "warm GO.MOD | GO.SUM | LIST...",
		Short: "Fetch what a project needs, so that its builds find it in the cache",
		Long: `Warm asks a running server for everything that a go.sum names, that a go.mod
requires, or that a list of lines MODULE@VERSION has, and compares the hashes of
the go.sum with what comes. It can be pointed at any GOPROXY. The status is 1 if
something could not be had.`,
		Args: cobra.MinimumNArgs(1),
	}
	settings := addSettings(cmd, p, "listen", "base_path")
	cmd.Flags().StringVar(&address, "url", "", "The URL of the server. Default: made from listen.")
	cmd.Flags().StringVar(&token, "token", "", "The token that the server asks for, as file:NAME or env:NAME.")
	cmd.Flags().IntVarP(&concurrency, "jobs", "j", 16, fmt.Sprintf("How many files to ask for at once, 1 to %d.", maxJobs))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if concurrency < 1 || concurrency > maxJobs {
			return fmt.Errorf("--jobs: %d is not a number of files: write 1 to %d", concurrency, maxJobs)
		}
		s, err := settings()
		if err != nil {
			return err
		}
		wants, err := readWants(args)
		if err != nil {
			return err
		}
		if len(wants) == 0 {
			fmt.Fprintf(p.stderr, "modgate: warning: %s: no module is named there\n  → name a go.mod, a go.sum or a list of MODULE@VERSION, one in a line\n", strings.Join(args, ", "))
		}
		address = cmp.Or(address, localURL(s.Listen, s.BasePath))
		if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return errors.New("--url: write http://host:port or https://host")
		}
		secret, err := readToken(token, newEnvironment(p.environ))
		if err != nil {
			return fmt.Errorf("--token: %w", err)
		}
		w := &warmer{
			token:    secret,
			base:     strings.TrimSuffix(address, "/"),
			client:   newWarmClient(concurrency),
			progress: newProgress(p.stderr, "warm", len(wants)),
		}
		start := time.Now()
		err = w.run(cmd.Context(), wants, concurrency)
		w.progress.end()
		if err != nil {
			return err
		}
		w.print(p.stdout, len(wants), time.Since(start))
		if len(w.failed) > 0 {
			return errReported
		}
		return nil
	}
	return cmd
}

// readToken returns the token that a reference names. The token itself is not
// taken: whoever may list processes would see it.
func readToken(ref string, env environment) (string, error) {
	if ref == "" {
		return "", nil
	}
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		token := env[name]
		if token == "" {
			return "", fmt.Errorf("environment variable %s is not set", name)
		}
		return token, nil
	}
	name, ok := strings.CutPrefix(ref, "file:")
	if !ok {
		return "", errors.New("write file:NAME or env:NAME: the token itself would be seen in the list of processes")
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("%s is empty", name)
	}
	return token, nil
}

// maxJobs bounds --jobs: more than this is a burden to the server and gains
// nothing.
const maxJobs = 256

// warmer asks one server for many files.
type warmer struct {
	base     string
	token    string // shown with each request; "" if there is none
	client   *http.Client
	progress *progress

	mu       sync.Mutex // guards what follows
	answered bool       // once or more
	bytes    int64
	failed   []finding
}

func newWarmClient(concurrency int) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = concurrency
	// A cold zip is fetched while we wait for the header of its answer.
	t.ResponseHeaderTimeout = 5 * time.Minute
	return &http.Client{Transport: t}
}

// errNoServer ends a run at once: nothing else could be had, either.
var errNoServer = errors.New("no server answers")

func (w *warmer) run(ctx context.Context, wants []want, concurrency int) error {
	defer w.client.CloseIdleConnections()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for _, want := range wants {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			n, err := w.fetch(ctx, want)
			w.progress.step()
			return w.note(ctx, want, n, err)
		})
	}
	err := g.Wait()
	slices.SortFunc(w.failed, func(a, b finding) int { return cmp.Compare(a.Name, b.Name) })
	return err
}

// print says how a run went.
func (w *warmer) print(out io.Writer, files int, took time.Duration) {
	for _, f := range w.failed {
		fmt.Fprintf(out, "failed %s: %s\n", f.Name, f.Reason)
	}
	fmt.Fprintf(out, "%s, %s, %d failed, %v\n", counted(files, "file"), Size(w.bytes).Human(), len(w.failed), took.Round(time.Millisecond))
}

// note notes how a fetch went. It returns an error if that ends the run.
func (w *warmer) note(ctx context.Context, want want, n int64, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if advice, cause := unconnected(err); cause != nil && (!w.answered || errors.Is(err, syscall.ECONNREFUSED)) {
		return fmt.Errorf("%w at %s: %s\n  → %s", errNoServer, hideUserinfo(w.base), hideUserinfo(cause.Error()), advice)
	}
	if refused := (*tokenRefused)(nil); errors.As(err, &refused) && !w.answered {
		return fmt.Errorf("%s: %w\n  → %s", hideUserinfo(w.base), refused, w.tokenAdvice())
	}
	w.answered = true
	w.bytes += n
	if err != nil {
		w.failed = append(w.failed, finding{want.Version.String() + " " + want.kind, hideUserinfo(err.Error())})
	}
	return nil
}

// tokenRefused is what a server says to who shows no token that it knows.
type tokenRefused struct{ text string }

// Error implements error.
func (u *tokenRefused) Error() string { return u.text }

// tokenAdvice says what to do about a 401. The server's own words are about the
// netrc file of the go command, which is not read here.
func (w *warmer) tokenAdvice() string {
	if w.token == "" {
		return "show a token, which who runs the server makes: --token=env:NAME or --token=file:NAME"
	}
	return "this is about the token of --token: look where it comes from, or ask who runs the server for a new one"
}

// unconnected returns why no connection to the server came about and what to do
// about it. The cause is nil if err has another one.
func unconnected(err error) (advice string, cause error) {
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect"):
		return "start one with modgate serve, or name it with --url", op
	case errors.As(err, &certificate):
		return "name the file with its authority in SSL_CERT_FILE", certificate
	case errors.Is(err, http.ErrSchemeMismatch):
		return "write http:// in --url", http.ErrSchemeMismatch
	}
	return "", nil
}

// fetch asks for one file, reads it to its end and returns its size.
func (w *warmer) fetch(ctx context.Context, want want) (int64, error) {
	path, err := want.path()
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+"/"+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "modgate-warm/"+buildInfo().Version)
	if w.token != "" {
		req.Header.Set("Authorization", "Bearer "+w.token)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 648)) // as much as the go command shows
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		if resp.StatusCode == http.StatusUnauthorized {
			return 0, &tokenRefused{resp.Status + ": " + line}
		}
		return 0, fmt.Errorf("%s: %s", resp.Status, line)
	}
	body := &counting{r: resp.Body}
	err = errors.Join(want.check(body), drain(body))
	return body.n, err
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// counting counts the bytes that are read.
type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// want is one file of a module version.
type want struct {
	module.Version
	kind string // info, mod or zip
	h1   string // as in go.sum; "" if it is not known
}

func (w want) path() (string, error) {
	escapedPath, err := module.EscapePath(w.Path)
	if err != nil {
		return "", err
	}
	escapedVersion, err := module.EscapeVersion(w.Version.Version)
	return escapedPath + "/@v/" + escapedVersion + "." + w.kind, err
}

// check compares the body with the hash. It need not read all of it.
func (w want) check(body io.Reader) error {
	var got string
	switch {
	case w.h1 == "":
		return nil
	case w.kind == "mod":
		data, err := io.ReadAll(io.LimitReader(body, 16<<20)) // x/mod/zip.MaxGoMod
		if err != nil {
			return err
		}
		got = ziphash.Mod(data)
	default:
		listing, err := ziphash.Stream(body)
		if errors.Is(err, ziphash.ErrNotStreamable) {
			return nil // the go command will check
		}
		if err != nil {
			return err
		}
		got = listing.H1()
	}
	if got != w.h1 {
		return fmt.Errorf("checksum mismatch: got %s, go.sum has %s", got, w.h1)
	}
	return nil
}

// readWants returns what the files name, each once.
func readWants(files []string) ([]want, error) {
	var wants []want
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, unreadable(err)
		}
		more, err := parseWants(file, data)
		if err != nil {
			return nil, err
		}
		wants = append(wants, more...)
	}
	return onceEach(wants), nil
}
