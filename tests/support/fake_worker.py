"""A worker that speaks the protocol and misbehaves as it is told: ``fake_worker.py HOW``."""

import json
import os
import sys
import time

HOW = sys.argv[1]
TIMED = {
    "seconds": {"limit": 0.010, "rival": 0.005}.get(HOW, 0.020),
    "cpu_seconds": 0.0001,
    "peak_rss_bytes": None,
    "array_bytes": 8,
    "calls": 1,
    "request_counts": {"requests": 5, "fetched_bytes": 99} if HOW == "miscounts" else None,
    "verified": HOW != "trusts",
}


def answer(request):
    if request["op"] == "open":
        if HOW == "na":
            return {"na": "not for this stack"}
        variants = {"limit": ["slow", "fast"], "rival": ["slow", "quick"]}.get(HOW, [""])
        return {"versions": {"fake": "1"}, "variants": variants}
    if HOW == "dies" and not request.get("discard"):
        print("last words", file=sys.stderr)
        os._exit(9)
    if HOW == "slow":
        time.sleep(0.3)
    if HOW == "hangs":
        time.sleep(600)
    if HOW == "closes":
        os.close(1)
        time.sleep(600)
    if HOW == "raises":
        return {"error": "ValueError: broken chunk"}
    if request.get("variant") == "slow":
        return {"timed": {**TIMED, "seconds": 0.5}}
    return {"timed": TIMED}


INSTEAD = {
    "babbles": "not json",
    "nests": "[" * 100_000,
    "lists": "[1]",
    "binary": "\udcff",
    "forgets": "{}",
    "odd": '{"versions": 1, "variants": "x", "timed": {"seconds": "long"}}',
    "complains": '{"error": {"of": ["what"]}}',
}
"""What it answers to anything."""

if HOW == "deaf":
    time.sleep(600)
if HOW == "endless":
    while True:
        os.write(1, b"x" * 65536)

for line in sys.stdin:
    said = INSTEAD.get(HOW) or json.dumps(answer(json.loads(line)))
    os.write(1, said.encode(errors="surrogateescape") + b"\n")
    if HOW == "repeats":
        print(json.dumps(answer(json.loads(line))), flush=True)
