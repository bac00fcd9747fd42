// Command modgate is a caching Go module proxy: it answers the GOPROXY protocol
// from its cache, fills misses from upstream proxies, and proves every byte
// against the checksum database before it lets the last of it go. Started by
// itself as a child, it becomes the go command that fetches a private module,
// or git's ssh.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/modgate/modgate/proxy/upstream"
)

func main() {
	if ran, code := upstream.Helper(os.Args, os.Environ(), os.Stdin, os.Stdout, os.Stderr); ran {
		os.Exit(code)
	}
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // first: the second signal ends the process at once
		cancel()
	}()
	if err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr); err != nil {
		os.Exit(statusOf(err))
	}
}
