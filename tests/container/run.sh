#!/bin/bash
# run.sh - build docker/Dockerfile and run the image as an operator would:
# read-only root, a user without rights, no capability, the health check.
#
# No Docker engine: buildah builds (chroot isolation) on a base that
# debootstrap makes, runc runs. Both need root. The base and the layers stay in
# build/container (1.2 GB), so that a second run takes seconds.
# TRACE=1 shows the commands.
set -euo pipefail
[ "${TRACE:-}" ] && set -x
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$top/build/container
tag=localhost/inferd:test
base=docker.io/library/debian:bookworm-slim
limit_mb=60

[ "$(id -u)" = 0 ] || { echo "test-container: needs root"; exit 1; }
"$top/scripts/deps.sh" container
mkdir -p "$work"
export TMPDIR=$work
b() {
    buildah --root "$work/store" --runroot "$work/run" \
        --storage-driver overlay "$@"
}
fail() {
    echo "not ok: $*"
    exit 1
}
ok() {
    echo "ok: $*"
}

# ---- build -------------------------------------------------------------------

if ! b images -q $base >"$work/found" 2>/dev/null || [ ! -s "$work/found" ]; then
    [ -d "$work/rootfs/bin" ] || debootstrap --variant=minbase \
        --include=ca-certificates bookworm "$work/rootfs" >"$work/base.log"
    c=$(b from scratch)
    b copy -q "$c" "$work/rootfs" / >/dev/null
    b commit -q --rm "$c" $base >/dev/null
    rm -rf "$work/rootfs"
fi
b build --isolation chroot --pull-never --format docker --layers \
    -f "$top/docker/Dockerfile" -t $tag "$top" >"$work/build.log" 2>&1 ||
    { tail -20 "$work/build.log"; fail "the image does not build"; }
ok "the image builds"
c=$(b from --pull-never $tag)
root=$(b mount "$c")
bundle=$work/bundle
name=inferd-test-$$
cleanup() {
    runc --root "$work/runc" kill "$name" KILL 2>/dev/null || true
    runc --root "$work/runc" delete -f "$name" 2>/dev/null || true
    b umount "$c" >/dev/null || true
    b rm "$c" >/dev/null || true
    rm -rf "$bundle" "$work/runc"
}
trap cleanup EXIT
mb=$(($(du -sb --apparent-size "$root" | cut -f1) / 1000000))
[ $mb -lt $limit_mb ] || fail "the image is $mb MB, not below $limit_mb"
ok "the image is $mb MB unpacked"
for path in bin/sh usr/bin; do
    [ ! -e "$root/$path" ] || fail "/$path is in it"
done
[ "$(find "$root" -perm /6000 | wc -l)" = 0 ] || fail "a setuid file is in it"
[ "$(find "$root/usr/share/doc" -name copyright | wc -l)" -ge 10 ] ||
    fail "licences are missing"
ok "no shell, nothing setuid, the libraries' licences"

# ---- run ---------------------------------------------------------------------

port=$(python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
mkdir -p "$bundle"
(cd "$bundle" && runc spec)
# What the image says and what compose.yaml adds; the host's network.
b inspect --type image $tag >"$work/image.json"
python3 - "$bundle/config.json" "$work/image.json" "$root" "$port" <<'PY'
import json
import sys
path, image, root, port = sys.argv[1:]
spec, says = json.load(open(path)), json.load(open(image))["Docker"]["config"]
uid, gid = map(int, says["User"].split(":"))
process = spec["process"]
process.update(terminal=False, args=says["Entrypoint"] + (says["Cmd"] or []),
               user={"uid": uid, "gid": gid}, noNewPrivileges=True,
               capabilities={}, rlimits=[], cwd=says["WorkingDir"] or "/",
               env=(says["Env"] or []) + [f"INFERD_LISTEN=127.0.0.1:{port}"])
spec["root"] = {"path": root, "readonly": True}
spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"]
                               if n["type"] not in ("network", "cgroup")]
spec["linux"].pop("resources", None)
spec["mounts"] = [m for m in spec["mounts"] if m["type"] != "cgroup"]
json.dump(spec, open(path, "w"))
print(*says["Healthcheck"]["Test"][1:], file=open(path + ".health", "w"))
PY
read -ra health <"$bundle/config.json.health"
healthy() {
    runc --root "$work/runc" exec --env "INFERD_LISTEN=127.0.0.1:$port" \
        --env INFERD_CONFIG=/etc/inferd/inferd.json "$name" "${health[@]}" "$@"
}

runc --root "$work/runc" run --bundle "$bundle" "$name" \
    >"$work/stdout" 2>"$work/stderr" &
runner=$!
for _ in $(seq 100); do
    curl -sf -o /dev/null "$url/readyz" && break
    sleep 0.1
done
curl -sf -o /dev/null "$url/readyz" ||
    { cat "$work/stderr"; fail "it does not become ready"; }
ok "it starts: read-only root, uid $(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' \
    "/proc/$(runc --root "$work/runc" state "$name" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])')/status")"

healthy || fail "the health check of a healthy server fails"
if healthy --listen 127.0.0.1:1 2>"$work/unhealthy"; then
    fail "the health check of no server passes"
fi
ok "the health check tells"

json='Content-Type: application/json'
text=$(curl -sf "$url/v1/generate" -H "$json" \
    -d '{"prompt": "It was a fine day, and", "max_tokens": 8, "stream": true}')
[[ $text == *'data: [DONE]'* ]] || fail "no stream: $text"
label=$(curl -sf "$url/v1/classify" -H "$json" \
    -d '{"model": "intents", "input": "where is my card?", "top_k": 1}')
[[ $label == *'"label":'* ]] || fail "no class: $label"
vector=$(curl -sf "$url/v1/embeddings" -H "$json" \
    -d '{"model": "sentences", "input": "where is my card?"}')
[[ $vector == *'"embedding":['* ]] || fail "no vector: $vector"
page=$(curl -sf "$url/")
[[ $page == *'<title>inferd playground</title>'* ]] || fail "no page"
ok "each model and the page answer"

runc --root "$work/runc" kill "$name" TERM
rc=0
wait $runner || rc=$?
[ $rc = 0 ] || fail "exit status $rc after SIGTERM"
[ "$(head -1 "$work/stdout")" = "inferd: listening on $url" ] ||
    fail "the first line is $(head -1 "$work/stdout")"
tail -n +2 "$work/stdout" | python3 -c 'import json, sys
routes = {json.loads(line)["route"] for line in sys.stdin}
assert {"/v1/generate", "/v1/classify", "/healthz"} <= routes, routes'
ok "it stops at SIGTERM, and its access log is JSON"
