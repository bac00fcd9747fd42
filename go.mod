module github.com/modgate/modgate

go 1.26.6

require (
	github.com/caddyserver/certmagic v0.25.6 // certificates by ACME, and where they are stored
	github.com/goccy/go-yaml v1.19.2 // configuration: strict decoding, errors with line and snippet
	github.com/goproxy/goproxy v0.26.1 // fetches private modules with the go command
	github.com/prometheus/client_golang v1.25.0 // metrics
	github.com/redis/go-redis/v9 v9.23.0 // the shared tier: small objects, leases, invalidation
	github.com/rogpeppe/go-internal v1.16.0 // tests: testscript with the real go command, txtar modules
	github.com/schollz/progressbar/v3 v3.19.1 // progress of warm on a terminal
	github.com/sony/gobreaker/v2 v2.4.0 // circuit breaker per upstream
	github.com/spf13/cobra v1.10.2 // sub-commands, flags, help
	go.uber.org/goleak v1.3.0 // tests: no goroutine without an owner
	golang.org/x/crypto v0.58.0 // ssh to private repositories: host keys and refusals as values, not as the text of a child
	golang.org/x/mod v0.42.0 // names, versions, zips, hashes, checksum database
	golang.org/x/sync v0.24.0 // errgroup for the parts of serve
	golang.org/x/sys v0.49.0 // openat2, byte-range locks and statfs of the disk cache
	pgregory.net/rapid v1.3.0 // tests: properties
)

require (
	github.com/aofei/backoff v1.2.0 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/caddyserver/zerossl v0.1.6 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/kylelemons/godebug v1.1.0 // indirect
	github.com/libdns/libdns v1.1.1 // indirect
	github.com/mholt/acmez/v3 v3.1.7 // indirect
	github.com/miekg/dns v1.1.73 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/zeebo/blake3 v0.2.4 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.uber.org/zap v1.28.0 // indirect
	go.uber.org/zap/exp v0.3.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/term v0.47.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
