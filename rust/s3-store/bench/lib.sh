# What the scripts of this directory share. Sourced by bash.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
store_binary=${S3_STORE:-$here/../../target/release/s3-store}
object_size=$((256 * 1024 * 1024))
connections=100
work=$(mktemp -d)
nginx_pid="" store_pid=""

cleanup() {
    [ -z "$nginx_pid" ] || kill "$nginx_pid" 2>/dev/null || true
    [ -z "$store_pid" ] || kill "$store_pid" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

need() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { echo "$tool is missing (Debian packages: nginx-light wrk curl jq)" >&2; exit 2; }
    done
}

make_data() {
    mkdir -p "$work/root/bench"
    head -c "$object_size" /dev/urandom > "$work/root/bench/object"
    chmod -R a+rX "$work"
}

# start_store [FLAG...]: sets store_pid, store_url and control_url.
start_store() {
    "$store_binary" --root "$work/root" "$@" > "$work/ready" &
    store_pid=$!
    until [ -s "$work/ready" ]; do sleep 0.05; done
    store_url=$(jq -r .endpoint "$work/ready")
    control_url=$(jq -r .control "$work/ready")
    # The first read computes the ETag.
    curl -sf -o /dev/null "$store_url/bench/object"
}

stop_store() {
    kill "$store_pid"
    wait "$store_pid"
    store_pid=""
}

# run_wrk URL RANGE_SIZE SECONDS: prints "requests-per-second errors bytes".
run_wrk() {
    wrk -t2 -c"$connections" -d"$3s" --timeout 10s -s "$here/ranges.lua" "$1" -- /bench/object "$object_size" "$2" |
        awk '/^RESULT/ {print $2, $3, $4}'
}
