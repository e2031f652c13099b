#!/bin/sh
# deps.sh - install the Debian packages that are missing, and only those.
#
#   scripts/deps.sh build|test|dev|cov|node|browser|deploy|container ...
#
# Called by `make run`, `make test` and the checks, so it has to cost nothing
# when all is there: one dpkg-query. It asks for root only when something is
# missing, and on a system without dpkg it says what is needed and lets the
# compiler be the judge.
# shellcheck disable=SC2086  # lists of packages are meant to be split
set -eu

build='gcc g++ make libmicrohttpd-dev libuv1-dev libcjson-dev
       libsentencepiece-dev libpcre2-dev libopenblas-dev
       libutf8proc-dev'
test='libcmocka-dev libcjson-dev python3 python3-yaml python3-jsonschema
      mpich curl'
dev='clang libclang-rt-14-dev clang-format clang-tidy shellcheck'
cov='gcovr'
node='nodejs npm'
browser='chromium'
deploy='haproxy prometheus'
container='buildah runc debootstrap curl python3'

wanted=
for group in "${@:-build}"; do
    case $group in
    build) wanted="$wanted $build" ;;
    test) wanted="$wanted $test" ;;
    dev) wanted="$wanted $dev" ;;
    cov) wanted="$wanted $cov" ;;
    browser) wanted="$wanted $browser" ;;
    deploy) wanted="$wanted $deploy" ;;
    container) wanted="$wanted $container" ;;
    node | onnx) wanted="$wanted $node" ;;
    *)
        echo "deps: unknown group '$group' (build, test, dev, cov, node, browser, deploy, container)" >&2
        exit 2
        ;;
    esac
done

if ! command -v dpkg-query >/dev/null; then
    echo "deps: not a Debian system; needed are the like of:" $wanted >&2
    exit 0
fi

present=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' $wanted \
    2>/dev/null | sed -n 's/^ii  *//p')
missing=
for package in $wanted; do
    case "
$present
" in
    *"
$package
"*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -z "$missing" ] && exit 0

root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps: packages are missing and neither root nor sudo is at hand." \
            "As root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    root=sudo
fi

echo "deps: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt() {
    $root apt-get -q -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1
}
# The lists may be absent (a fresh chroot) or old: refresh them when needed.
install="install -y --no-install-recommends $missing"
apt $install || { apt update && apt $install; } || {
    tail -n 20 "$log" >&2
    echo "deps: apt-get could not install$missing" >&2
    exit 1
}
