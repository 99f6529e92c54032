#!/usr/bin/env bash
# What a client measures under each profile against what was asked for: time to the first byte, rate of one
# connection, rate of the link. Usage: profiles.sh
source "$(dirname "$0")/lib.sh"
need wrk curl jq awk sort python3

quantiles() { sort -n | awk '{v[NR] = $1} END {
    printf "min %.2f, median %.2f, p90 %.2f, p99 %.2f, max %.2f ms (n = %d)\n",
        v[1], v[int((NR + 1) / 2)], v[int(NR * .9 + .5)], v[int(NR * .99 + .5)], v[NR], NR }'; }

# One request after the other on one connection, from sending to the first byte that the client reads.
first_bytes_alone() {
    python3 - "${store_url#http://}" "$1" <<'PYTHON' | quantiles
import socket, sys, time
host, port = sys.argv[1].split(":")
connection = socket.create_connection((host, int(port)))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
request = b"GET /bench/object HTTP/1.1\r\nhost: x\r\nrange: bytes=0-0\r\n\r\n"
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    connection.sendall(request)
    answer = connection.recv(65536)
    print((time.perf_counter() - start) * 1e3)
    assert answer.startswith(b"HTTP/1.1 206") and b"\r\n\r\n" in answer, answer
PYTHON
}

# 100 in flight, as the store hands them to the socket.
first_bytes_together() {
    curl -sf -X POST -o /dev/null "$control_url/marks/ttfb?log=1"
    run_wrk "$store_url" 16384 4 > /dev/null
    curl -sf "$control_url/marks/ttfb/requests" | jq -r '.requests[] | select(.first_byte_ns) | (.first_byte_ns - .received_ns) / 1e6' | quantiles
    curl -sf -X DELETE -o /dev/null "$control_url/marks/ttfb"
}

rate_of_one() { curl -s -o /dev/null -w '%{speed_download}\n' "$store_url/bench/object" | awk '{printf "%.1f MB/s\n", $1 / 1e6}'; }

rate_of_one_up() {
    head -c 134217728 "$work/root/bench/object" |
        curl -s -o /dev/null -H Expect: -w '%{speed_upload}\n' -T - "$store_url/bench/up" | awk '{printf "%.1f MB/s\n", $1 / 1e6}'
}

rate_of_all() { run_wrk "$store_url" "$1" 6 | awk '{printf "%.3f Gbit/s, errors %d\n", $3 * 8 / 6 / 1e9, $2}'; }

make_data
for profile in loopback s3 s3-tail; do
    start_store --profile "$profile" --seed 1
    echo "profile $profile: $(jq -c .profile "$work/ready")"
    echo "  first byte, one at a time:       $(first_bytes_alone 200)"
    echo "  first byte, 100 in flight:       $(first_bytes_together)"
    echo "  one connection, 256 MiB down:    $(rate_of_one)"
    echo "  one connection, 128 MiB up:      $(rate_of_one_up)"
    echo "  100 connections, 1 MiB ranges:   $(rate_of_all 1048576)"
    stop_store
done
