"""What commands refuse before any work, and what they take: files to write, lengths, names of patterns."""

import click
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.cli.lengths import Lengths
from harness.errors import BadUseError
from harness.workload.patterns import Parameters


def commands(group, *names):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield (*names, name), command


WRITTEN = ("--output", "--markdown", "--html", "--timeline")
FOLDERS = ("history --output", "wheels --output")
"""They make the folder that they fill, with those above it."""
OUTPUTS = {
    f"{' '.join(names)} {parameter.opts[-1]}": parameter
    for names, command in commands(zcb)
    for parameter in command.params
    if parameter.opts[-1] in WRITTEN
}


@pytest.mark.parametrize("name", sorted(OUTPUTS.keys() - FOLDERS))
def test_a_folder_that_is_not_there_is_refused_before_any_work(name, tmp_path):
    option = OUTPUTS[name]
    with pytest.raises(click.BadParameter, match="there is no folder"):
        option.type.convert(str(tmp_path / "nowhere" / "file"), option, None)
    assert list(tmp_path.iterdir()) == []
    assert option.type.convert(str(tmp_path / "file"), option, None) == tmp_path / "file"


@pytest.mark.parametrize("text", ["4,128,128", "4x128x128", Parameters.text((4, 128, 128))])
def test_lengths_are_taken_as_they_are_printed(text):
    assert Lengths().convert(text, None, None) == (4, 128, 128)


def test_a_pattern_that_does_not_exist_is_said_before_an_option_that_is_missing():
    done = CliRunner().invoke(zcb, ["workload", "chunks_of_one_shrad"])
    assert isinstance(done.exception, BadUseError)
    assert "did you mean 'chunks_of_one_shard'?" in str(done.exception)
