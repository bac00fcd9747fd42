// Modbench measures Go module proxies: any one with "run", modgate beside its
// peers with "compare". The client is the real go command with empty caches;
// the results are a Markdown table.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "modbench:", err)
		stop()
		os.Exit(1)
	}
}
