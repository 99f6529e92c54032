"""What studies/ways.py prints of the surveys of stores that took turns."""

import os
import signal

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from studies import ways
from studies.reports import Report
from studies.ways import WAYS, table
from tests.support import passes

GIB = 2**30


def survey(seconds, cpu_seconds):
    """One session of a way: three rounds in one process, of two GiB."""
    samples = [
        passes.sample(seconds * factor, 0.04, 2 * GIB, session=1, round_number=n, cpu_seconds=cpu_seconds, requests=5)
        for n, factor in enumerate((0.99, 1, 1.02), 1)
    ]
    workload = {"pattern": "whole_array", "array": {"key": "demo/large"}, "parameters": {}, "array_bytes": 2 * GIB}
    return [Report(reader="zarrs", workload=workload, target="embedded", samples=samples)]


def tabled(tmp_path, recorded):
    """Return the header and the only row of the only table."""
    file = tmp_path / "ways.json"
    file.write_bytes(msgspec.json.encode(recorded))
    result = CliRunner().invoke(table, [str(file)], catch_exceptions=False)
    assert result.exit_code == 0
    title, _, header, _, row = result.output.rstrip().splitlines()
    assert title == "**whole_array, demo/large**"
    return ([cell.strip() for cell in line.strip("|").split("|")] for line in (header, row))


def test_ratios_are_of_the_same_sessions(tmp_path):
    """The machine is up to three times slower in some sessions, for every way: no ratio has any of it."""
    slow = np.random.default_rng(0).uniform(1, 3, 7).tolist()
    factors = dict(zip(WAYS, (1, 1.2, 1.5), strict=True))
    recorded = {way: [survey(0.1 * hour * factor, 4 * factor) for hour in slow] for way, factor in factors.items()}
    _, (_, milliseconds, encrypted, signed, cpu, _, requests) = tabled(tmp_path, recorded)
    assert float(milliseconds.split()[0]) == pytest.approx(100 * np.median(slow), rel=0.01)
    assert encrypted.startswith("1.20 [")
    assert signed.startswith("1.50 [")
    assert cpu == "2 → 2.40 → 3"
    assert requests == "5"


def test_tls_is_held_against_plain_http_behind_the_same_link(tmp_path):
    seconds = {"plain@2": 1, "TLS@2": 1.1, "plain@10": 0.5, "TLS@10": 0.6, "TLS@50": 0.9}
    recorded = {way: [survey(one, 4) for _ in range(7)] for way, one in seconds.items()}
    header, row = tabled(tmp_path, recorded)
    shown = {title: float(cell.split()[0]) for title, cell in list(zip(header, row, strict=True))[1:7]}
    assert shown == {
        "plain@2: ms": 1000,
        "TLS@2: times plain@2": 1.1,
        "plain@10: ms": 500,
        "plain@10: times plain@2": 0.5,
        "TLS@10: times plain@10": 1.2,
        "TLS@50: times plain@2": 0.9,
    }


def test_a_recording_that_is_stopped_keeps_what_was_finished_and_stops_its_stores(tmp_path, monkeypatch):
    done, said = [], []

    def surveyed(place, asked):
        if len(done) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        done.append(place)
        return survey(0.1, 4)

    monkeypatch.setattr(ways, "_zcb", lambda place, *words: said.append(words[:2]))
    monkeypatch.setattr(ways, "_surveyed", surveyed)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    file = tmp_path / "ways.json"
    asked = ["--readers", "zarrs", "--only", "large", "--way", "plain@2", "--way", "TLS@2", "-o", str(file)]
    assert CliRunner().invoke(ways.record, asked).exit_code == 128 + signal.SIGTERM
    assert {way: len(sessions) for way, sessions in msgspec.json.decode(file.read_bytes()).items()} == {
        "plain@2": 1,
        "TLS@2": 1,
    }
    assert said[-2:] == [("store", "stop")] * 2
