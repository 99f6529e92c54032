"""The study of projections: what is foretold was not seen, and a model that is right is not off."""

import itertools

import msgspec

from harness.results.projection import stages, together
from studies.projection_fit import IN_FLIGHT, LINKS_GBIT_S, SPLITS, foretold
from tests.unit.results.test_projection import COSTS, HERE, cell


def made(link, cores, in_flight, factor=1.0):
    place = msgspec.structs.replace(HERE, link_gbit_s=link, cores=cores)
    costs = msgspec.structs.replace(COSTS, max_in_flight=float(in_flight))
    found = stages(cell(), costs, place, in_flight, in_flight)
    return cell(factor * together(found, 0.7), place=place, costs=costs, in_flight=in_flight)


def grid(**fields):
    return [made(*where, **fields) for where in itertools.product(LINKS_GBIT_S, (1, 2), IN_FLIGHT)]


def test_every_split_foretells_some_and_sees_some():
    cells = grid()
    for seen in SPLITS.values():
        known = [one for one in cells if seen(one)]
        assert 0 < len(known) < len(cells)
        assert len(foretold(cells, seen)) == len(cells) - len(known)


def test_times_that_the_model_makes_are_foretold_and_others_are_not():
    for seen in SPLITS.values():
        assert max(abs(one.error) for one in foretold(grid(), seen)) < 0.02
        assert all(one.inside for one in foretold(grid(), seen))
    cells = grid()
    odd = [msgspec.structs.replace(one, seconds=3 * one.seconds) if one.place.cores == 1 else one for one in cells]
    assert min(abs(one.error) for one in foretold(odd, SPLITS["another number of cores"])) > 0.5
