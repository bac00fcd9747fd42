#!/usr/bin/env bash
# Runs three replicas of modgate on this machine, with the Redis and the bucket
# that they share and nginx in front, until Ctrl-C: `make cluster`.
#
#   PORT=8088 tools/cluster.sh [flags of modgate serve for all replicas]
#
# Files and logs are below DIR, which is removed at the end unless it is named.
# MODGATE is the program, bin/modgate unless it is named.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PATH=$("$root/tools/setup.sh" dir):$PATH:/usr/sbin
modgate=${MODGATE:-$root/bin/modgate}
port=${PORT:-8088}
dir=${DIR:-}
[ -n "$dir" ] || { dir=$(mktemp -d) && temporary=1; }
mkdir -p "$dir/s3/modgate"

say() { printf '%s\n' "$*" >&2; }
for program in redis-server versitygw nginx; do
	command -v "$program" >/dev/null || { say "needs $program: make setup"; exit 1; }
done
[ -x "$modgate" ] || { say "needs $modgate: make build"; exit 1; }

children=()
# shellcheck disable=SC2317 # called by trap
stop() {
	trap - EXIT INT TERM
	[ ${#children[@]} = 0 ] || kill "${children[@]}" 2>/dev/null || true
	wait || true
	[ -z "${temporary:-}" ] || rm -rf "$dir"
}
trap stop EXIT
trap 'exit 0' INT TERM

# run NAME COMMAND... starts one in the background, with its log in NAME.log.
run() {
	local name=$1
	shift
	"$@" >"$dir/$name.log" 2>&1 &
	children+=($!)
}

redis=$((port + 1)) bucket=$((port + 2))
run redis redis-server --port $redis --bind 127.0.0.1 --save '' --dir "$dir"
run s3 env ROOT_ACCESS_KEY=cluster ROOT_SECRET_KEY=cluster-secret versitygw --port 127.0.0.1:$bucket --quiet posix "$dir/s3"

servers=''
for n in 1 2 3; do
	address=127.0.0.1:$((port + 10 * n))
	servers+="    server $address max_fails=1 fail_timeout=2s;"$'\n'
	(
		umask 077 # keys are in it
		cat >"$dir/modgate$n.yaml" <<EOF
listen: $address
admin: {listen: "127.0.0.1:$((port + 10 * n + 1))"}
cache:
  dir: "$dir/cache$n"
  redis: {addr: ["127.0.0.1:$redis"]}
  s3:
    bucket: modgate
    endpoint: http://127.0.0.1:$bucket
    path_style: on
    access_key: cluster
    secret_key: cluster-secret
drain: {delay: 3s}
EOF
	)
	run "modgate$n" "$modgate" serve --config="$dir/modgate$n.yaml" "$@"
done

# The same as in docs/shared-cache.md.
cat >"$dir/nginx.conf" <<EOF
daemon off;
master_process off;
pid $dir/nginx.pid;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path $dir/nginx-body;
  proxy_temp_path $dir/nginx-proxy;
  fastcgi_temp_path $dir/nginx-fastcgi;
  uwsgi_temp_path $dir/nginx-uwsgi;
  scgi_temp_path $dir/nginx-scgi;
  upstream modgate {
$servers    keepalive 64;
  }
  server {
    listen 127.0.0.1:$port;
    location / {
      proxy_pass http://modgate;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host \$http_host;
      proxy_set_header X-Forwarded-Proto \$scheme;
      proxy_set_header X-Forwarded-For \$remote_addr;
      proxy_connect_timeout 1s;
      proxy_next_upstream error timeout;
      proxy_buffering off;
      proxy_read_timeout 600s;
    }
  }
}
EOF
run nginx nginx -e "$dir/nginx.log" -p "$dir" -c "$dir/nginx.conf"

for _ in $(seq 100); do
	! curl -fsS "http://127.0.0.1:$port/readyz" >/dev/null 2>&1 || break
	sleep 0.1
done
say "three replicas behind http://127.0.0.1:$port, logs in $dir; Ctrl-C ends them
  use them     GOPROXY=http://127.0.0.1:$port go mod download
  hang Redis   kill -STOP ${children[0]}    (kill -CONT ${children[0]})
  no bucket    kill -STOP ${children[1]}    (kill -CONT ${children[1]})
  one less     kill -KILL ${children[2]}
  what is kept $modgate cache stat --config=$dir/modgate1.yaml
  what it does curl -s http://127.0.0.1:$((port + 21))/metrics | grep -E 'shared|fleet|redis|bucket'"
wait -n || true
say "one of the processes has ended; the others go on"
wait
