#!/bin/sh
# Install what the lab or the benchmark needs, as root on Debian or Ubuntu; elsewhere say what will be skipped, and why.
# Usage: lab/install.sh [lab|bench]
# No service is stopped. None of those that come with the packages is started, now or at the next boot.
set -eu

say() { echo "lab/install.sh: $*" >&2; }

# Programs and the packages they come in; services are those that the packages bring.
case "${1-lab}" in
lab)
	pairs="ip:iproute2 nsd:nsd unbound:unbound unbound-control:unbound knotd:knot named:bind9 named-checkzone:bind9-utils kzonecheck:knot-dnssecutils dnssec-verify:bind9-utils ldns-verify-zone:ldnsutils ldns-signzone:ldnsutils dnsviz:dnsviz dig:bind9-dnsutils etcdctl:etcd-client etcd:etcd-server kresd:knot-resolver pdns_recursor:pdns-recursor dnsmasq:dnsmasq-base curl:curl update-ca-certificates:ca-certificates"
	services="nsd:nsd unbound:unbound knot:knot named:bind9 kresd@1:knot-resolver kresd.target:knot-resolver kres-cache-gc:knot-resolver pdns-recursor:pdns-recursor etcd:etcd-server"
	without="every lab test will be skipped"
	;;
bench)
	pairs="dnsperf:dnsperf taskset:util-linux nsd:nsd knotd:knot named:bind9 pdns_server:pdns-server"
	services="nsd:nsd knot:knot named:bind9 pdns:pdns-server"
	without="the benchmark of DNS drops the servers that are not installed"
	;;
*)
	say "unknown argument $1; usage: lab/install.sh [lab|bench]"
	exit 2
	;;
esac

missing() {
	for pair in $pairs; do
		PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair#*:}"
	done | sort -u
	case "$pairs" in # a library, not a program
	*pdns_server*) ls /usr/lib/*/pdns/libbindbackend.so >/dev/null 2>&1 || echo pdns-backend-bind ;;
	esac
}

packages=$(missing)
if [ "$(uname -s)" != Linux ]; then
	say "SKIPPED: $without; it runs on Linux only"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	say "SKIPPED: $without, because that needs root; try: sudo -E make"
	exit 0
fi
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
	say "SKIPPED: $without, because these Debian packages, or what your system calls them, are missing:" $packages
	exit 0
fi

# Debian starts a service when its package is installed, unless this file says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

say "installing" $packages
export DEBIAN_FRONTEND=noninteractive
# The package lists of a fresh image are empty.
apt-get install -y -q --no-install-recommends $packages >/dev/null 2>&1 || {
	apt-get update -q
	apt-get install -y -q --no-install-recommends $packages
}

# What was not here before shall not run after the next boot either.
for pair in $services; do
	service=${pair%%:*}
	case " $(echo $packages) " in
	*" ${pair#*:} "*) command -v systemctl >/dev/null 2>&1 && systemctl disable --quiet "$service" 2>/dev/null || true ;;
	esac
done

packages=$(missing)
if [ -n "$packages" ]; then
	say "these packages are installed, but their programs are not found:" $packages
	exit 1
fi
