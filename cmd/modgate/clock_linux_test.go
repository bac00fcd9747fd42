package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// vdsoTag is where the kernel says in the auxiliary vector at which address a
// process has its vDSO (AT_SYSINFO_EHDR in getauxval(3)).
const vdsoTag = 33

// runAt runs a program for which it is another time: offset, in whole seconds, is
// added to the wall clock. Programs of Go read that from the vDSO, and not by a
// function that LD_PRELOAD could replace, and time namespaces have no wall clock.
// So the function in the vDSO of the new process, which is a private copy once it
// is written, is replaced before the program has begun.
func runAt(t *testing.T, offset time.Duration, cmd *exec.Cmd) error {
	t.Helper()
	runtime.LockOSThread() // who traces is a thread
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var stopped syscall.WaitStatus
	_, err := syscall.Wait4(cmd.Process.Pid, &stopped, 0, nil)
	if err == nil {
		err = setClock(cmd.Process.Pid, offset)
	}
	if err = errors.Join(err, syscall.PtraceDetach(cmd.Process.Pid)); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal(err)
	}
	return cmd.Wait()
}

// setClock sets the clock of a process that stands still.
func setClock(pid int, offset time.Duration) error {
	auxv, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	if err != nil {
		return err
	}
	base := int64(0)
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) == vdsoTag {
			base = int64(binary.LittleEndian.Uint64(auxv[8:]))
		}
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	vdso, err := elf.NewFile(io.NewSectionReader(mem, base, 1<<16))
	if err != nil {
		return err
	}
	symbols, err := vdso.DynamicSymbols()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "__vdso_clock_gettime" })
	if i < 0 {
		return errors.New("the vDSO has no clock")
	}
	code := []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi
		0x75, 13, // jne to ret: no CLOCK_REALTIME
		0x48, 0xb9, // mov rcx, offset
	}
	code = binary.LittleEndian.AppendUint64(code, uint64(offset/time.Second))
	code = append(code, 0x48, 0x01, 0x0e /* add [rsi], rcx */, 0xc3 /* ret */)
	_, err = mem.WriteAt(code, base+int64(symbols[i].Value))
	return err
}

// TestDoctorUnderAWrongClock gives a machine a wrong clock: the go command blames
// the certificate, and doctor the clock, of this machine or of a server.
func TestDoctorUnderAWrongClock(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		if os.Getenv("CI") != "" {
			t.Fatal("needs amd64")
		}
		t.Skip("NOT TESTED: needs amd64")
	}
	pki, dir, w := tlstest.New(t), t.TempDir(), newWorld(t)
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{From: time.Now().Add(-time.Hour), Until: time.Now().Add(20 * time.Hour)}))
	root := pki.WriteRoot(dir)
	i := w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key)
	upstream := https(i.url)
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.26\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const expired = "x509: certificate has expired or is not yet valid: current time "
	for _, test := range []struct {
		offset time.Duration
		says   string // the go command, between the time that it is there and that of the certificate
		value  string // doctor
	}{
		{-30 * time.Hour, " is before ", `wrong by (29h59m|30h0m)`},
		{30 * time.Hour, " is after ", `wrong by (29h59m|30h0m)`},
		{10 * time.Minute, "", `wrong by (9m5\ds|10m)`}, // all certificates are good, and still
	} {
		run := func(name string, args ...string) (string, error) {
			cmd := exec.Command(name, args...)
			cmd.Dir = dir
			cmd.Env = append(slices.DeleteFunc(goEnv(t.TempDir(), upstream, w.log.Key()), func(v string) bool { return strings.HasSuffix(v, "=") }),
				"SSL_CERT_FILE="+root, "SSL_CERT_DIR="+empty, "HTTPS_PROXY=http://127.0.0.1:1") // no host of the public is asked for the time
			var out bytes.Buffer
			cmd.Stdout = &out
			if name == "go" {
				cmd.Stderr = &out
			}
			err := runAt(t, test.offset, cmd)
			return out.String(), err
		}
		said, err := run("go", "mod", "download", "example.com/greet@v1.0.0")
		if (err != nil) != (test.says != "") || test.says != "" && (!strings.Contains(said, expired) || !strings.Contains(said, test.says)) {
			t.Errorf("%v: the go command says %s, %v", test.offset, said, err)
		}
		for _, args := range [][]string{{"doctor", "--json", "example.com/greet@v1.0.0"}, {"doctor", "--json", "--server", "--upstream=" + upstream, "--sumdb=" + w.log.Key(), "--tls-trust=" + root, "--cache-dir=" + dir}} {
			var report string
			inTime(t, func() { report, _ = run("modgate", args...) })
			var e struct {
				Findings []struct{ Code, Severity, Title string }
			}
			if err := json.Unmarshal([]byte(report), &e); err != nil {
				t.Fatalf("%v\n%s", err, report)
			}
			for _, f := range e.Findings {
				if f.Severity != "note" && (f.Code != "clock-wrong" || !regexp.MustCompile(test.value).MatchString(f.Title)) {
					t.Errorf("%v: %q finds %+v\n%s", test.offset, args, f, report)
				}
			}
			if !strings.Contains(report, `"clock-wrong"`) {
				t.Errorf("%v: %q finds no wrong clock\n%s", test.offset, args, report)
			}
		}
	}
}
