module github.com/modgate/modgate

go 1.26.6

require (
	github.com/aws/aws-sdk-go-v2 v1.47.7 // the bucket of the shared tier
	github.com/aws/aws-sdk-go-v2/config v1.33.15 // its chain of credentials
	github.com/aws/aws-sdk-go-v2/credentials v1.20.15 // its static credentials
	github.com/aws/aws-sdk-go-v2/service/s3 v1.114.8 // S3
	github.com/aws/smithy-go v1.28.8 // the codes of S3's errors
	github.com/caddyserver/certmagic v0.25.6 // certificates by ACME, and where they are stored
	github.com/goccy/go-yaml v1.19.2 // configuration: strict decoding, errors with line and snippet
	github.com/goproxy/goproxy v0.26.1 // fetches private modules with the go command
	github.com/libdns/acmedns v0.5.0 // challenge dns-01
	github.com/libdns/alidns v1.0.6 // challenge dns-01
	github.com/libdns/azure v0.5.0 // challenge dns-01
	github.com/libdns/cloudflare v0.2.2 // challenge dns-01
	github.com/libdns/digitalocean v0.0.0-20250606071607-dfa7af5c2e31 // challenge dns-01
	github.com/libdns/googleclouddns v1.2.0 // challenge dns-01, with its build tag alone
	github.com/libdns/rfc2136 v1.0.1 // challenge dns-01
	github.com/libdns/route53 v1.6.1 // challenge dns-01
	github.com/libdns/tencentcloud v1.4.3 // challenge dns-01
	github.com/mholt/acmez/v3 v3.1.7 // what an ACME server says is wrong, as values
	github.com/prometheus/client_golang v1.25.0 // metrics
	github.com/redis/go-redis/v9 v9.23.0 // the shared tier: small objects, leases, invalidation
	github.com/rogpeppe/go-internal v1.16.0 // tests: testscript with the real go command, txtar modules
	github.com/schollz/progressbar/v3 v3.19.1 // progress of warm on a terminal
	github.com/sony/gobreaker/v2 v2.4.0 // circuit breaker per upstream
	github.com/spf13/cobra v1.10.2 // sub-commands, flags, help
	go.uber.org/goleak v1.3.0 // tests: no goroutine without an owner
	go.uber.org/zap v1.28.0 // certmagic's log lines, into ours
	golang.org/x/crypto v0.58.0 // ssh to private repositories: host keys and refusals as values, not as the text of a child; ocsp for doctor
	golang.org/x/mod v0.42.0 // names, versions, zips, hashes, checksum database
	golang.org/x/net v0.60.0 // doctor: which HTTP proxy applies, by the rules of net/http; messages of DNS; tlsmgr: how DNS writes a name
	golang.org/x/sync v0.24.0 // errgroup for the parts of serve
	golang.org/x/sys v0.49.0 // openat2, byte-range locks and statfs of the disk cache
	pgregory.net/rapid v1.3.0 // tests: properties
)

require (
	cloud.google.com/go/auth v0.16.1 // indirect
	cloud.google.com/go/auth/oauth2adapt v0.2.8 // indirect
	cloud.google.com/go/compute/metadata v0.6.0 // indirect
	github.com/Azure/azure-sdk-for-go/sdk/azcore v1.18.0 // indirect
	github.com/Azure/azure-sdk-for-go/sdk/azidentity v1.9.0 // indirect
	github.com/Azure/azure-sdk-for-go/sdk/internal v1.11.1 // indirect
	github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/dns/armdns v1.2.0 // indirect
	github.com/AzureAD/microsoft-authentication-library-for-go v1.4.2 // indirect
	github.com/aofei/backoff v1.2.0 // indirect
	github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream v1.7.26 // indirect
	github.com/aws/aws-sdk-go-v2/feature/ec2/imds v1.20.7 // indirect
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.5.10 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.8.10 // indirect
	github.com/aws/aws-sdk-go-v2/internal/v4a v1.5.10 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/accept-encoding v1.13.24 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/checksum v1.11.11 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/presigned-url v1.14.10 // indirect
	github.com/aws/aws-sdk-go-v2/service/internal/s3shared v1.20.10 // indirect
	github.com/aws/aws-sdk-go-v2/service/route53 v1.58.3 // indirect
	github.com/aws/aws-sdk-go-v2/service/signin v1.12.3 // indirect
	github.com/aws/aws-sdk-go-v2/service/sso v1.39.3 // indirect
	github.com/aws/aws-sdk-go-v2/service/ssooidc v1.44.3 // indirect
	github.com/aws/aws-sdk-go-v2/service/sts v1.51.8 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/caddyserver/zerossl v0.1.6 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/digitalocean/godo v1.148.0 // indirect
	github.com/felixge/httpsnoop v1.0.4 // indirect
	github.com/go-logr/logr v1.4.2 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/google/go-querystring v1.1.0 // indirect
	github.com/google/s2a-go v0.1.9 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/googleapis/enterprise-certificate-proxy v0.3.6 // indirect
	github.com/googleapis/gax-go/v2 v2.14.1 // indirect
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	github.com/hashicorp/go-retryablehttp v0.7.7 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/kylelemons/godebug v1.1.0 // indirect
	github.com/libdns/libdns v1.1.1 // indirect
	github.com/miekg/dns v1.1.73 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/pkg/browser v0.0.0-20240102092130-5ac0b6a4141c // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/zeebo/blake3 v0.2.4 // indirect
	go.opentelemetry.io/auto/sdk v1.1.0 // indirect
	go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp v0.60.0 // indirect
	go.opentelemetry.io/otel v1.35.0 // indirect
	go.opentelemetry.io/otel/metric v1.35.0 // indirect
	go.opentelemetry.io/otel/trace v1.35.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.uber.org/zap/exp v0.3.0 // indirect
	golang.org/x/oauth2 v0.37.0 // indirect
	golang.org/x/term v0.47.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/time v0.11.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
	google.golang.org/api v0.233.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250505200425-f936aa4a68b2 // indirect
	google.golang.org/grpc v1.72.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
