package s3_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/cache/sharedtest"
)

// bare clears what the machine of the test knows about AWS.
func bare(t *testing.T) {
	t.Helper()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
			_ = os.Unsetenv(name) // t.Setenv restores it
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, none)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// sts answers who asks for the role with these credentials.
func sts(t *testing.T, server *sharedtest.S3) (url string, asked func() []string) {
	var mu sync.Mutex
	var seen []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Form.Get("Action")+" "+r.Form.Get("RoleArn")+" "+r.Form.Get("WebIdentityToken"))
		w.Header().Set("Content-Type", "text/xml")
		action := r.Form.Get("Action")
		fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken></SessionToken><Expiration>%s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
			action, server.AccessKey, server.SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []string { mu.Lock(); defer mu.Unlock(); return seen }
}

// Without keys of their own, replicas find credentials as everything that speaks
// to AWS does.
func TestCredentials(t *testing.T) {
	server := sharedtest.NewS3(t)
	file := func(t *testing.T, text string) string {
		t.Helper()
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	keys := "aws_access_key_id = " + server.AccessKey + "\naws_secret_access_key = " + server.SecretKey + "\n"
	for about, set := range map[string]func(t *testing.T) func() error{
		"environment": func(t *testing.T) func() error {
			t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
			t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
			return nil
		},
		"shared credentials file": func(t *testing.T) func() error {
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file(t, "[default]\naws_access_key_id = x\naws_secret_access_key = y\n[fleet]\n"+keys))
			t.Setenv("AWS_PROFILE", "fleet")
			return nil
		},
		"web identity of a pod": func(t *testing.T) func() error {
			url, asked := sts(t, server)
			t.Setenv("AWS_ENDPOINT_URL_STS", url)
			t.Setenv("AWS_REGION", "us-east-1")
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/modgate")
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file(t, "token-of-the-pod"))
			return func() error {
				if got := asked(); len(got) != 1 || got[0] != "AssumeRoleWithWebIdentity arn:aws:iam::123456789012:role/modgate token-of-the-pod" {
					return fmt.Errorf("STS was asked %q", got)
				}
				return nil
			}
		},
		"role of a profile": func(t *testing.T) func() error {
			url, asked := sts(t, server)
			t.Setenv("AWS_ENDPOINT_URL_STS", url)
			t.Setenv("AWS_REGION", "us-east-1")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file(t, "[source]\naws_access_key_id = x\naws_secret_access_key = y\n"))
			t.Setenv("AWS_CONFIG_FILE", file(t, "[profile fleet]\nrole_arn = arn:aws:iam::123456789012:role/modgate\nsource_profile = source\n"))
			t.Setenv("AWS_PROFILE", "fleet")
			return func() error {
				if got := asked(); len(got) != 1 || !strings.HasPrefix(got[0], "AssumeRole arn:aws:iam::123456789012:role/modgate") {
					return fmt.Errorf("STS was asked %q", got)
				}
				return nil
			}
		},
		"container role": func(t *testing.T) func() error {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "token-of-the-task" {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":%q,"Expiration":%q}`, server.AccessKey, server.SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
			}))
			t.Cleanup(s.Close)
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", s.URL)
			t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token-of-the-task")
			return nil
		},
	} {
		t.Run(about, func(t *testing.T) {
			bare(t)
			check := set(t)
			c := config(server)
			c.AccessKey, c.SecretKey = "", ""
			s := open(t, c)
			put(t, s, zip, []byte("zip"))
			if got, err := read(t.Context(), s, zip); err != nil || string(got) != "zip" {
				t.Errorf("read %q, %v", got, err)
			}
			if check != nil {
				if err := check(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for about, set := range map[string]func(c *s3.Config){
		"none":  func(c *s3.Config) { c.AccessKey, c.SecretKey = "", "" },
		"wrong": func(c *s3.Config) { c.SecretKey = "wrong" },
	} {
		t.Run(about, func(t *testing.T) {
			bare(t)
			c := config(server)
			set(&c)
			c.Logger = slog.New(slog.DiscardHandler)
			s, err := s3.New(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Get(t.Context(), zip); err == nil || !strings.Contains(err.Error(), map[string]string{"none": "credentials", "wrong": "SignatureDoesNotMatch"}[about]) || strings.Contains(err.Error(), server.SecretKey) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// Whatever is written asks for the encryption that is configured.
func TestEncryptionAtRest(t *testing.T) {
	server := sharedtest.NewS3(t)
	p := sharedtest.NewProxy(t, server.Endpoint)
	for _, sse := range []string{"", "AES256", "aws:kms"} {
		t.Run("sse "+sse, func(t *testing.T) {
			var mu sync.Mutex
			writes := map[string]int{}
			p.Set(func(r *http.Request) sharedtest.Fault {
				kind := ""
				switch {
				case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
					kind = "copy"
				case r.Method == http.MethodPut && !r.URL.Query().Has("partNumber"):
					kind = "put"
				case r.Method == http.MethodPost && r.URL.Query().Has("uploads"):
					kind = "upload in parts"
				default:
					return sharedtest.Fault{}
				}
				mu.Lock()
				defer mu.Unlock()
				writes[kind]++
				key := r.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id")
				if got := r.Header.Get("X-Amz-Server-Side-Encryption"); got != sse || (key == "alias/modgate") != (sse == "aws:kms") {
					t.Errorf("%s asks for %q, key %q", kind, got, key)
				}
				return sharedtest.Fault{}
			})
			c := config(server)
			c.Endpoint, c.SSE, c.PartSize = p.URL, sse, 5<<20
			if sse == "aws:kms" {
				c.KMSKey = "alias/modgate"
			}
			s := open(t, c)
			// What the server thinks of it does not matter here.
			_ = s.Put(t.Context(), zip, strings.NewReader("zip"), cache.PutOptions{})
			_ = s.Put(t.Context(), zip+"2", io.LimitReader(zeros{}, 6<<20), cache.PutOptions{})
			_ = s.Quarantine(t.Context(), zip, "test")
			mu.Lock()
			defer mu.Unlock()
			if len(writes) != 3 {
				t.Errorf("seen %v", writes)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
