package sharedtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Nginx is a load balancer in front of servers.
type Nginx struct {
	*process
	URL string
}

// NginxConfig is what stands in front of a fleet: docs/shared-cache.md shows
// the same. A request that a replica did not answer goes to another.
const NginxConfig = `
worker_processes 1;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
daemon off;
master_process off;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  upstream modgate {
%[3]s    keepalive 64;
  }
  server {
    listen %[2]s;
    location / {
      proxy_pass http://modgate;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_connect_timeout 1s;
      proxy_next_upstream error timeout;
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
`

// NewNginx starts one in front of the servers at the URLs.
func NewNginx(t TB, servers ...string) *Nginx {
	t.Helper()
	program := needTool(t, "nginx")
	dir, address := t.TempDir(), "127.0.0.1:"+FreePorts(t, 1)[0]
	var lines strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&lines, "    server %s max_fails=1 fail_timeout=1s;\n", strings.TrimPrefix(s, "http://"))
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, NginxConfig, dir, address, lines.String()), 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	n := &Nginx{process: start(t, nil, program, "-e", filepath.Join(dir, "error.log"), "-p", dir, "-c", file), URL: "http://" + address}
	n.await(func() error { return dial(address) })
	return n
}
