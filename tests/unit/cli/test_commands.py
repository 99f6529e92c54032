"""The commands of ``zcb``: all are there by their names, and one does not wait for the libraries of the others."""

import subprocess
import sys

import click
import pytest

from harness.cli import zcb

CONTEXT = click.Context(zcb)


@pytest.mark.parametrize("name", zcb.list_commands(CONTEXT))
def test_a_command_is_found_by_its_name(name):
    command = zcb.get_command(CONTEXT, name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str()


def test_other_packages_add_theirs():
    assert "data" in zcb.list_commands(CONTEXT)
    assert zcb.get_command(CONTEXT, "nothing") is None


def test_asking_for_the_store_imports_no_reader(tmp_path):
    code = "import sys; from harness.cli import main\ntry: main()\nfinally: print(*{'numpy', 'zarr'} & {*sys.modules})"
    command = [sys.executable, "-c", code, "store", "stop"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"ZCB_STATE_DIR": str(tmp_path)})
    assert (done.stdout, done.stderr) == ("\n", "zcb store: nothing was running\n")
