"""The study of projections: what is foretold was not seen, and a model that is right is not off."""

import itertools

import msgspec
from click.testing import CliRunner

from harness.results.projection import stages, together
from studies.projection_fit import IN_FLIGHT, LINKS_GBIT_S, SPLITS, Recording, foretold, main
from tests.unit.results.test_projection import COSTS, HERE, cell

PLAIN = [split for split in SPLITS.values() if not split.by_tls]
(BY_TLS,) = (split for split in SPLITS.values() if split.by_tls)


def made(link, cores, in_flight, factor=1.0, more=0.0, **fields):
    place = msgspec.structs.replace(HERE, link_gbit_s=link, cores=cores, encrypted=bool(more))
    costs = msgspec.structs.replace(COSTS, max_in_flight=float(in_flight), cpu_seconds=COSTS.cpu_seconds + more)
    found = stages(cell(), costs, place, in_flight, in_flight)
    return cell(factor * together(found, 0.7), place=place, costs=costs, in_flight=in_flight, **fields)


def grid(**fields):
    return [made(*where, **fields) for where in itertools.product(LINKS_GBIT_S, (1, 2), IN_FLIGHT)]


def test_every_split_foretells_some_and_sees_some():
    cells = grid()
    for split in PLAIN:
        known = [one for one in cells if split.seen(one)]
        assert 0 < len(known) < len(cells)
        assert len(foretold(cells, split)) == len(cells) - len(known)


def test_times_that_the_model_makes_are_foretold_and_others_are_not():
    for split in PLAIN:
        assert max(abs(one.error) for one in foretold(grid(), split)) < 0.02
        assert all(one.inside for one in foretold(grid(), split))
    cells = grid()
    odd = [msgspec.structs.replace(one, seconds=3 * one.seconds) if one.place.cores == 1 else one for one in cells]
    assert min(abs(one.error) for one in foretold(odd, SPLITS["one core from two"])) > 0.5


def test_reads_by_tls_are_foretold_by_what_it_costs_on_other_workloads():
    cells = [one for label in "ab" for more in (0.0, 0.3) for one in grid(label=label, more=more)]
    found = foretold(cells, BY_TLS)
    assert len(found) == len(cells) / 2
    assert max(abs(one.error) for one in found) < 0.02


def test_what_more_cores_do_is_seen_on_other_workloads_where_those_tell():
    """A second core costs half as much CPU again, which the row's own cells of one core cannot know."""
    cells = []
    for link, cores, asked in itertools.product((10.0,), (1, 2), IN_FLIGHT):
        place = msgspec.structs.replace(HERE, link_gbit_s=link, cores=cores)
        costs = msgspec.structs.replace(COSTS, max_in_flight=float(asked), cpu_seconds=2.0 * 1.5 ** (cores - 1))
        found = stages(cell(), costs, place, asked, asked)
        one = cell(together(found, 0.7), place=place, costs=costs, in_flight=asked)
        cells += [msgspec.structs.replace(one, label=label) for label in "ab"]
    alone, told = (foretold(cells, SPLITS[f"two cores from one{more}"]) for more in ("", ", others tell"))
    assert max(abs(one.error) for one in told) < 0.02
    assert min(abs(one.error) for one in alone) > 0.2


def test_two_recordings_tell_how_far_a_measurement_is_off(tmp_path):
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path, factor in zip(paths, (1.0, 1.25), strict=True):
        path.write_bytes(msgspec.json.encode(Recording(rounds=1, minutes=1, cells=grid(factor=factor))))
    done = CliRunner().invoke(main, ["again", *map(str, paths)])
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.stdout.splitlines() if "%" in line] == [
        [name, "16", "20.0%", "20.0%", "20.0%"] for name in ("all", "r")
    ]
