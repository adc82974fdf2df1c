#!/bin/sh
# Install what the lab needs, as root on Debian or Ubuntu; elsewhere say what the lab will skip, and why.
# Usage: lab/install.sh
# No service is stopped. None of those that come with the packages is started, now or at the next boot.
set -eu

say() { echo "lab/install.sh: $*" >&2; }

missing() {
	for pair in ip:iproute2 nsd:nsd unbound:unbound unbound-control:unbound knotd:knot named:bind9 dig:bind9-dnsutils etcdctl:etcd-client; do
		PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair#*:}"
	done | sort -u
}

packages=$(missing)
if [ "$(uname -s)" != Linux ]; then
	say "SKIPPED: the lab is made of network namespaces, which only Linux has"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	say "SKIPPED: every lab test will be skipped, because network namespaces need root; try: sudo -E make lab"
	exit 0
fi
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
	say "SKIPPED: every lab test will be skipped, because these Debian packages, or what your system calls them, are missing:" $packages
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
for pair in nsd:nsd unbound:unbound knot:knot bind9:named; do
	case " $(echo $packages) " in
	*" ${pair%%:*} "*) command -v systemctl >/dev/null 2>&1 && systemctl disable --quiet "${pair#*:}" 2>/dev/null || true ;;
	esac
done

packages=$(missing)
if [ -n "$packages" ]; then
	say "these packages are installed, but their programs are not found:" $packages
	exit 1
fi
