#!/usr/bin/env bash
# Makes ready what `make test` needs, and changes nothing that is there already.
#
#   tools/setup.sh dir       print the directory of the pinned tools
#   tools/setup.sh install   install what is missing, say what could not be had
#   tools/setup.sh bench     the same for `make bench`
#   tools/setup.sh online    print 1 if Go's public mirror answers, else 0
#
# Debian packages are installed as root, or by sudo where that asks no
# password. The Go tools are built, at the versions of tools/go.mod, into a
# cache directory of the user that is named after those versions.
# Something missing is a warning; with CI=true it is an error.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Programs that the tests start: program, Debian package, who needs it.
programs='
gcc     gcc,libc6-dev  go test -race
git     git            the go command, wherever a test runs it
hg      mercurial      the tests of Mercurial repositories
ssh     openssh-client the tests of repositories over SSH
sshd    openssh-server the same
redis-server redis-server,redis-tools the tests of cache/redis and tlsmgr
named   bind9          the tests of challenges by DNS
squid   squid-openssl  the tests of doctor: the HTTP proxy of a company, which may open TLS
mitmdump mitmproxy     the same: another program that opens TLS
strace  strace         the tests that a body leaves by sendfile and that a failed fsync is seen
systemd-analyze systemd the check of deploy/modgate.service
'

# Programs that are taken out of their Debian package into the tool directory:
# the packages would bring a service or several hundred megabytes with them.
extracted='
promtool   prometheus ./usr/bin/promtool   the checks of deploy/*.yml
shellcheck shellcheck ./usr/bin/shellcheck the check of the shell scripts
nginx      nginx      ./usr/sbin/nginx      the load balancer in the tests of a fleet; modbench compares with it
'

# The same for modbench, which does without where it must.
bench_programs='
wrk     wrk            the load generator of modbench
h2load  nghttp2-client the same over HTTP/2
'

say() { printf 'setup: %s\n' "$*" >&2; }
have() { PATH=$PATH:/usr/sbin command -v "$1" >/dev/null 2>&1; }

missing=()
miss() { missing+=("$*"); }

tool_dir() {
	local base=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}} key
	key=$({ cat "$root/tools/go.mod" "$root/tools/go.sum" && (cd "$root/tools" && go version); } | sha256sum | cut -c1-16)
	printf '%s\n' "${base:-$root/.cache}/modgate-tools/$key"
}

# as_root runs a command as root, or returns 1 where that is not to be had.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif have sudo && sudo -n true 2>/dev/null; then
		sudo -n "$@"
	else
		return 1
	fi
}

apt_updated=
apt_update() {
	[ -n "$apt_updated" ] && return
	apt_updated=1
	say "apt-get update"
	as_root apt-get -qq -o DPkg::Lock::Timeout=300 update >/dev/null || say "apt-get update failed"
}

apt_install() {
	have apt-get || return 1
	as_root true || return 1
	say "installing $*"
	local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends)
	as_root "${apt[@]}" "$@" >/dev/null 2>&1 && return
	apt_update
	as_root "${apt[@]}" "$@" >/dev/null && return
	# One that cannot be had must not keep the others away.
	local package
	for package; do as_root "${apt[@]}" "$package" >/dev/null 2>&1 || say "could not install $package"; done
}

# no_services runs a command during which packages may start no server, and
# makes sure that those it has installed are not started later either: the
# tests start their own. A policy of the machine is left as it is, and so are
# servers that were there before.
no_services() {
	local policy=/usr/sbin/policy-rc.d rc=0 service fresh=()
	for service in ssh:sshd redis-server:redis-server named:named squid:squid; do
		have "${service#*:}" || fresh+=("${service%:*}")
	done
	if [ -e "$policy" ] || [ ${#fresh[@]} = 0 ] || ! as_root true; then
		"$@"
		return
	fi
	printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
	as_root chmod 755 "$policy"
	"$@" || rc=$?
	as_root rm -f "$policy"
	for service in "${fresh[@]}"; do
		! have update-rc.d || as_root update-rc.d "$service" disable >/dev/null 2>&1 || true
	done
	return $rc
}

install_programs() {
	local program packages why wanted=()
	while read -r program packages why; do
		[ -z "$program" ] || have "$program" || wanted+=("${packages//,/ }")
	done <<<"$programs"
	[ -e /etc/ssl/certs/ca-certificates.crt ] || [ "$(uname -s)" != Linux ] || wanted+=(ca-certificates)
	# shellcheck disable=SC2068 # one entry may be several packages
	[ ${#wanted[@]} = 0 ] || no_services apt_install ${wanted[@]} || true
	while read -r program packages why; do
		[ -z "$program" ] || have "$program" || miss "$program (Debian: ${packages//,/ }) for $why"
	done <<<"$programs"
}

apt_download() { apt-get -qq download "$1" >/dev/null 2>&1; }

# extract takes one file out of a Debian package, with no part of its set-up.
extract() {
	local dir=$1 package=$2 file=$3 tmp
	tmp=$(mktemp -d)
	chmod 755 "$tmp" # apt's own user downloads into it
	(
		cd "$tmp" &&
			{ apt_download "$package" || { apt_update && apt_download "$package"; }; } &&
			dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x "$file" &&
			mv "$file" "$dir/.${file##*/}.$$" &&
			mv "$dir/.${file##*/}.$$" "$dir/${file##*/}"
	) || say "could not take $file out of $package"
	rm -rf "$tmp"
}

# runs reports whether a program starts: one whose libraries are missing does not.
runs() { "$1" --version >/dev/null 2>&1 || "$1" -v >/dev/null 2>&1; }

install_extracted() {
	local dir=$1 program package file why
	while read -r program package file why; do
		[ -n "$program" ] || continue
		have "$program" && continue
		if ! runs "$dir/$program"; then
			say "taking $program out of the Debian package $package"
			if have apt-get && have dpkg-deb; then extract "$dir" "$package" "$file"; fi
		fi
		runs "$dir/$program" || miss "$program (Debian: $package) for $why"
	done <<<"$extracted"
}

install_go_tools() {
	local dir=$1
	[ -x "$dir/staticcheck" ] && return
	say "building the Go tools of tools/go.mod"
	(cd "$root/tools" && CGO_ENABLED=0 GOBIN=$dir GOFLAGS=-buildvcs=false go install tool) || miss "staticcheck, which could not be built from tools/go.mod"
}

# install_apart builds the programs of a module of tools that take minutes. They
# are kept apart from the other tools, so that they are built anew only for
# another version of themselves.
install_apart() {
	local dir=$1 module=$2 why=$3 key store program
	key=$(cat "$root/tools/$module/go.mod" "$root/tools/$module/go.sum" | sha256sum | cut -c1-16)
	store=${dir%/*}/$module-$key
	if [ ! -e "$store/built" ]; then
		say "building the programs of tools/$module; this takes some minutes, once"
		if (cd "$root/tools/$module" && CGO_ENABLED=0 GOBIN=$store GOFLAGS=-buildvcs=false nice -n 15 go install -trimpath -ldflags="-s -w" tool); then
			touch "$store/built"
		else
			miss "the programs of tools/$module, which could not be built, for $why"
		fi
	fi
	for program in "$store"/*; do
		[ ! -x "$program" ] || ln -sfn "$program" "$dir/${program##*/}"
	done
}

install() {
	have go || { say "needs Go 1.26.6 or newer: https://go.dev/dl/"; exit 1; }
	(cd "$root" && go version >/dev/null) || exit 1
	local dir
	dir=$(tool_dir)
	mkdir -p "$dir"
	install_programs
	install_extracted "$dir"
	install_go_tools "$dir"
	if [ "${1:-}" != bench ]; then
		install_apart "$dir" versitygw "the tests of cache/s3"
		install_apart "$dir" testca "the tests of tlsmgr"
	fi
	[ ${#missing[@]} = 0 ] && return
	say "missing, and not to be had without root or a package source:"
	printf 'setup:   %s\n' "${missing[@]}" >&2
	[ "${CI:-}" = true ] && exit 1
	say "going on without; the tests that need them are skipped"
}

online() {
	local tmp answer=0
	tmp=$(mktemp -d)
	# A fresh module cache, or the answer would come from there.
	if (cd "$tmp" && GOMODCACHE=$tmp GOPROXY=https://proxy.golang.org GOFLAGS=-modcacherw GOWORK=off \
		timeout 30 go list -m golang.org/x/mod@v0.42.0) >/dev/null 2>&1; then
		answer=1
	fi
	rm -rf "$tmp"
	echo $answer
}

case ${1:-} in
dir) tool_dir ;;
install) install ;;
bench)
	programs+=$bench_programs
	install bench
	;;
online) online ;;
*)
	sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
	exit 2
	;;
esac
