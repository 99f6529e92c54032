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
    if HOW == "raises":
        return {"error": "ValueError: broken chunk"}
    if request.get("variant") == "slow":
        return {"timed": {**TIMED, "seconds": 0.5}}
    return {"timed": TIMED}


for line in sys.stdin:
    print("not json" if HOW == "babbles" else json.dumps(answer(json.loads(line))), flush=True)
