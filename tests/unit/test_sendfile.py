"""The study of servers: the client counts what it was answered, and shares are of plain sendfile's."""

import os
import socket
import subprocess

import click
import pytest

from studies import sendfile
from studies.sendfile import PLAIN, Rate, Server, compiled, plain_server, table, turn


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("sendfile"))


@pytest.fixture
def server(program, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 4096)
    with plain_server(program, file) as server:
        yield server


def test_the_plain_server_sends_the_range_that_is_asked_for(server):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nRange: bytes=300-309\r\n\r\n")
        head, _, body = client.makefile("rb").read1(1000).partition(b"\r\n\r\n")
        body += client.recv(10 - len(body)) if len(body) < 10 else b""
    assert head.startswith(b"HTTP/1.1 206")
    assert body == bytes(range(44, 54))


def test_a_turn_tells_a_rate_and_what_it_cost(program, server):
    rate = turn(program, server, 1 << 20, 64 << 10, connections=2, seconds=0.3)
    assert rate.cpu_s_per_gb > 0
    # Both are of the same CPU time.
    assert rate.cpu_s_per_gb * rate.bodies_per_cpu_s == pytest.approx(1e9 / (64 << 10))


def test_a_wrong_answer_ends_the_study(program, server):
    # Beyond the end of the file the plain server breaks the connection.
    with pytest.raises(click.ClickException, match="2 errors"):
        turn(program, server, 1 << 40, 1 << 30, connections=2, seconds=0.3)


def test_ranges_are_kept_as_often_as_is_asked(program, server, tmp_path):
    wanted = tmp_path / "list"
    wanted.write_text("".join(f"/ {first} {first + 999}\n" for first in range(0, 100_000, 1000)))
    command = [program, "keep", str(server.port), wanted, "8", "3"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert len(shown.split()) == 3
    assert all(float(seconds) > 0 for seconds in shown.split())


def test_a_range_that_is_not_there_ends_the_program(program, server, tmp_path):
    wanted = tmp_path / "list"
    wanted.write_text(f"/ {1 << 40} {(1 << 40) + 999}\n")
    done = subprocess.run([program, "keep", str(server.port), wanted, "2", "1"], capture_output=True, timeout=60)
    assert done.returncode == 1


def test_shares_are_those_of_bodies_per_cpu_second():
    rates = {1 << 20: {PLAIN: Rate(20.0, 0.2, 5000.0), "store": Rate(15.0, 0.4, 2500.0)}}
    assert table(rates).splitlines()[2:] == [
        "| 1 MiB | sendfile | 20.0 | 0.200 | 5,000 | 1.00 |",
        "| 1 MiB | store | 15.0 | 0.400 | 2,500 | 0.50 |",
    ]


def test_servers_take_turns():
    asked = []

    def one(server, range_bytes):
        asked.append((range_bytes, server.name))
        return Rate(len(asked), 1.0, 1.0)

    servers = [Server("a", 1, os.getpid()), Server("b", 2, os.getpid())]
    rates = sendfile.measured(servers, one, turns=3, ranges=(1, 2))
    assert asked == [(1, "a"), (1, "b")] * 3 + [(2, "a"), (2, "b")] * 3
    assert (rates[1]["a"].gbit_s, rates[2]["b"].gbit_s) == (3, 10)
