#!/usr/bin/env bash
# 100 connections in flight for SECONDS (60), with uploads, listings and deletions beside them: no error may occur and
# memory must stay flat. Exit code 1 if not. Usage: soak.sh [SECONDS]
source "$(dirname "$0")/lib.sh"
seconds=${1:-60}
need wrk curl jq awk

churn() {
    head -c 1048576 "$work/root/bench/object" > "$work/small"
    while :; do
        curl -sf -o /dev/null -T "$work/small" "$store_url/bench/churn/$((RANDOM % 20))" || echo failed
        curl -sf -o /dev/null "$store_url/bench?list-type=2&prefix=churn/" || echo failed
        curl -sf -o /dev/null -X DELETE "$store_url/bench/churn/$((RANDOM % 20))" || echo failed
    done > "$work/churn"
}

resident() { curl -sf "$control_url/counters" | jq .rss_bytes; }

make_data
start_store
run_wrk "$store_url" 131072 3 > /dev/null # warm-up: buffers and allocator arenas reach their size
churn & churn_pid=$!
start_rss=$(resident)
run_wrk "$store_url" 131072 "$seconds" > "$work/result" & wrk_pid=$!
while kill -0 "$wrk_pid" 2>/dev/null; do
    sleep 5
    resident >> "$work/rss"
done
kill "$churn_pid"; wait "$churn_pid" 2>/dev/null || true
read -r rate errors bytes < "$work/result"
curl -sf "$control_url/counters" > "$work/counters"
awk -v start="$start_rss" '{ if ($1 > most) most = $1 } END { printf "resident: %.1f MB at the start, at most %.1f MB, %.1f MB at the end\n", start / 1e6, most / 1e6, $1 / 1e6; exit most > start + 20e6 }' "$work/rss" || flat=no
echo "$seconds s, $rate GET/s, $bytes bytes, errors $errors, failed uploads, listings or deletions $(wc -l < "$work/churn")"
jq -r '"store: \(.requests) requests, \(.put) PUT, errors \(.errors), max in flight \(.max_in_flight), still in flight \(.in_flight)"' "$work/counters"
[ "$errors" = 0 ] && [ ! -s "$work/churn" ] && [ "$(jq .errors "$work/counters")" = 0 ] && [ -z "${flat:-}" ]
