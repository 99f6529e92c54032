"""A worker that speaks the protocol and misbehaves as it is told: ``fake_worker.py HOW``.

`tunable` takes 20 ms, and less or more with its settings; every third execution of it is slow, whatever they are.
"""

import json
import os
import sys
import time

HOW = sys.argv[1]
FACTORS = {"fast": 0.5, "together": 0.9, "slow": 2.0, "same": 1.0}
opened: dict[str, object] = {}
executions = 0
TIMED = {
    "seconds": {"limit": 0.010, "rival": 0.005}.get(HOW, 0.020),
    "cpu_seconds": 0.0001,
    "peak_rss_bytes": None,
    "array_bytes": 8,
    "calls": 1,
    "request_counts": {"requests": 5, "fetched_bytes": 99} if HOW == "miscounts" else None,
    "verified": HOW != "trusts",
}


def open_workload(request):
    if HOW == "na":
        return {"na": "not for this stack"}
    opened.update(request.get("settings", {}))
    if "broken" in opened:
        return {"error": "ValueError: broken setting"}
    if "impossible" in opened:
        return {"na": "not with this setting"}
    variants = {"limit": ["slow", "fast"], "rival": ["slow", "quick"]}.get(HOW, [""])
    return {"versions": {"fake": "1"}, "variants": variants}


def answer(request):
    if request["op"] == "open":
        return open_workload(request)
    if HOW == "dies" and not request.get("discard"):
        print("last words", file=sys.stderr)
        os._exit(9)
    if HOW == "slow":
        time.sleep(1)
    if HOW == "hangs":
        time.sleep(600)
    if HOW == "closes":
        os.close(1)
        time.sleep(600)
    if HOW == "raises":
        return {"error": "ValueError: broken chunk"}
    if HOW == "tunable":
        return {"timed": {**TIMED, "seconds": tuned_seconds()}}
    if request.get("variant") == "slow":
        return {"timed": {**TIMED, "seconds": 0.5}}
    return {"timed": TIMED}


def tuned_seconds():
    global executions
    executions += 1
    seconds = TIMED["seconds"] * (3 if executions % 3 == 0 else 1)
    for name in [*opened, *(name for name in FACTORS if name in os.environ)]:
        seconds *= FACTORS[name]
    return seconds


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
