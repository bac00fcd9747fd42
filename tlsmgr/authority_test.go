package tlsmgr

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"strings"
	"testing"
)

// A crash at any write leaves what the next start mends, and a root that was
// once given out stays.
func TestInternalCrash(t *testing.T) {
	ctx := t.Context()
	for old := range 2 {
		for n := 0; ; n++ {
			storage := newMemory()
			var root []byte
			if old == 1 { // an authority whose intermediate is due
				if _, err := openAuthority(ctx, storage); err != nil {
					t.Fatal(err)
				}
				root, _ = storage.Load(ctx, rootCertKey)
				storage.Delete(ctx, intermediateKeyKey)
			}
			writes, crash := 0, errors.New("crash")
			storage.fail = func(op, _ string) error {
				if op != "store" && op != "delete" {
					return nil
				}
				if writes++; writes > n {
					return crash
				}
				return nil
			}
			_, err := openAuthority(ctx, storage)
			storage.fail = nil
			a, again := openAuthority(ctx, storage)
			if again != nil {
				t.Fatalf("after a crash at write %d: %v", n, again)
			}
			if root != nil && !bytes.Equal(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw}), root) {
				t.Errorf("after a crash at write %d there is another root", n)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, crash) {
				t.Fatal(err)
			}
		}
	}
}

// A root whose key is gone is never replaced, at whatever moment the storage
// fails: it is what clients trust.
func TestInternalKeepsItsRoot(t *testing.T) {
	ctx := t.Context()
	for n := range 8 {
		storage := newMemory()
		if _, err := openAuthority(ctx, storage); err != nil {
			t.Fatal(err)
		}
		root := storage.files[rootCertKey]
		for _, key := range []string{rootKeyKey, intermediateCertKey, intermediateKeyKey} {
			delete(storage.files, key)
		}
		loads := 0
		storage.fail = func(op, key string) error {
			if op == "load" && key == rootCertKey {
				if loads++; loads == n {
					return errors.New("connection refused")
				}
			}
			return nil
		}
		_, err := openAuthority(ctx, storage)
		if err == nil || !bytes.Equal(storage.files[rootCertKey], root) {
			t.Errorf("load %d fails: %v; the root is another: %v", n, err, !bytes.Equal(storage.files[rootCertKey], root))
		}
		if loads < n && !strings.Contains(err.Error(), "backup") {
			t.Errorf("no remedy: %v", err)
		}
	}
}

// What is spoilt is told and never replaced: clients trust the root.
func TestInternalSpoilt(t *testing.T) {
	ctx := t.Context()
	other := newMemory()
	if _, err := openAuthority(ctx, other); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		rootCertKey:         "is not signed by",
		intermediateCertKey: "is not the key of",
		intermediateKeyKey:  "is not the key of",
	} {
		storage := newMemory()
		if _, err := openAuthority(ctx, storage); err != nil {
			t.Fatal(err)
		}
		storage.files[name] = other.files[name]
		if _, err := openAuthority(ctx, storage); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s of another authority: %v", name, err)
		}
		storage.files[name] = []byte("junk")
		if _, err := openAuthority(ctx, storage); err == nil || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s is junk: %v", name, err)
		}
	}
	// The intermediate may be deleted, as the error says.
	storage := newMemory()
	before, err := openAuthority(ctx, storage)
	if err != nil {
		t.Fatal(err)
	}
	delete(storage.files, intermediateCertKey)
	delete(storage.files, intermediateKeyKey)
	after, err := openAuthority(ctx, storage)
	if err != nil || !after.root.Equal(before.root) || after.intermediate.Equal(before.intermediate) {
		t.Errorf("after the intermediate was deleted: %v", err)
	}
	if _, err := RootPEM(ctx, newMemory()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
