#!/usr/bin/env bash
# Range GETs per second of the store (profile loopback) and of nginx, 100 connections, both with the same client in the
# same run: rounds interleave them, medians and ratios are printed.
# Usage: nginx.sh [ROUNDS [SECONDS]]     S3_STORE=... names another binary.
source "$(dirname "$0")/lib.sh"
rounds=${1:-5} seconds=${2:-4}
need nginx wrk curl jq awk
port=$((20000 + RANDOM % 10000))

start_nginx() {
    cat > "$work/nginx.conf" <<CONF
worker_processes auto;
daemon off;
pid $work/nginx.pid;
error_log $work/error.log;
events { worker_connections 1024; }
http {
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    open_file_cache max=1000;
    server { listen 127.0.0.1:$port reuseport; root $work/root; }
}
CONF
    nginx -c "$work/nginx.conf" &
    nginx_pid=$!
    until curl -sf -r 0-0 -o /dev/null "http://127.0.0.1:$port/bench/object"; do sleep 0.05; done
}

median() { sort -n "$1" | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

make_data
start_nginx
start_store
echo "$(nginx -v 2>&1), $(nproc) cores, $rounds rounds of $seconds s, $connections connections"
for size in 16384 131072 1048576; do
    : > "$work/nginx.$size"; : > "$work/store.$size"
    for _ in $(seq "$rounds"); do
        run_wrk "http://127.0.0.1:$port" "$size" "$seconds" >> "$work/nginx.$size"
        run_wrk "$store_url" "$size" "$seconds" >> "$work/store.$size"
    done
    errors=$(awk '{e += $2} END {print e}' "$work/nginx.$size" "$work/store.$size")
    nginx_rate=$(median "$work/nginx.$size") store_rate=$(median "$work/store.$size")
    awk -v size="$size" -v n="$nginx_rate" -v s="$store_rate" -v e="$errors" 'BEGIN {
        printf "%8d bytes: nginx %8.0f GET/s, store %8.0f GET/s, ratio %.2f, errors %d\n", size, n, s, s / n, e }'
done
curl -sf "$control_url/counters" | jq -r '"store: peak memory \(.peak_rss_bytes / 1e6) MB, CPU \(.cpu_seconds) s, errors \(.errors)"'
