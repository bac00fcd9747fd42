package proxy

import (
	"context"
	"io"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

// Kinds of the immutable files of a module version, as in the last element of
// their URL.
const (
	KindInfo = "info"
	KindMod  = "mod"
	KindZip  = "zip"
)

// Latest is the query that Source.Info answers as the protocol's @latest.
const Latest = "latest"

// Source is where modules come from: an upstream GOPROXY, a repository. It is
// safe for concurrent use. The context is used until the returned body is
// closed. Absent is fs.ErrNotExist and means that the source is sure. An error
// with a method Refused() bool that reports true says that the source
// understood and will not give (HTTP 403, 451). One with Timeout() bool took
// too long. Every other error is trouble, which may pass.
type Source interface {
	// Info returns the .info JSON, byte for byte, of what query (a version, a
	// branch, a commit, or Latest) means for the module path.
	Info(ctx context.Context, path, query string) ([]byte, error)
	// List returns the versions that the source knows of, unsorted, without
	// pseudo-versions. A module without tagged versions has none: no error.
	List(ctx context.Context, path string) ([]string, error)
	// Open returns one file of m (KindMod or KindZip) and its size in bytes,
	// -1 if the source did not say. A body that ends with io.EOF has that
	// size; one that ends early returns another error. The caller closes it.
	// A body with a method Origin() string names the host that it came from.
	Open(ctx context.Context, m module.Version, kind string) (body io.ReadCloser, size int64, err error)
}

// reopener is an optional ability of a Source with several origins: Open, but
// not from origin nor any that comes before it, whose bytes proved wrong.
// fs.ErrNotExist if none is left.
type reopener interface {
	OpenAfter(ctx context.Context, m module.Version, kind, origin string) (body io.ReadCloser, size int64, err error)
}

// Verifier proves the content of modules. It is safe for concurrent use.
type Verifier interface {
	// Verify compares hash ("h1:…") with what is known of m's file of this
	// kind (KindMod or KindZip). nil is proof. An error with a method
	// Mismatch() (want, got string) says that the bytes are wrong;
	// fs.ErrNotExist that the authority knows no such version; one with
	// Unkept() bool that the bytes may be served but not kept; any other
	// error that it cannot be told now, and the bytes must not be completed.
	Verify(ctx context.Context, m module.Version, kind, hash string) error
}

// filesVerifier is an optional ability of a Verifier that learns from us what a
// version is: Verify, for several files of m that must be of one commit. hashes
// are by kind. Nothing is learnt of any of them if one is wrong.
type filesVerifier interface {
	VerifyFiles(ctx context.Context, m module.Version, hashes map[string]string) error
}

// preparer is an optional ability of a Verifier: start looking m up, because
// Verify will be called when its bytes have come. It returns when the answer
// is at hand or cannot be had; a failure shows in Verify.
type preparer interface {
	Prepare(ctx context.Context, m module.Version)
}

// Policy says who may have what, from where. Its methods are pure and fast:
// they are called on every request, hits included.
type Policy interface {
	Route(caller policy.Caller, path string) policy.Route
	Decide(caller policy.Caller, m module.Version, facts policy.Facts) policy.Verdict
	Filter(caller policy.Caller, path string, facts policy.Facts) ([]string, policy.Verdict)
	Explain(caller policy.Caller, m module.Version, facts policy.Facts) policy.Explanation
}

// sparing is an optional ability of a Policy: to tell, for less than a decision
// costs, that no go.mod of a module is refused, whoever asks.
type sparing interface{ SparesGoMod(path string) bool }

// replaceable is an optional ability of a Policy whose rules may be replaced while
// the server runs: those in force. A decision is made by one set of rules, and
// what was found out for it is remembered for that set.
type replaceable interface{ Current() *policy.Policy }
