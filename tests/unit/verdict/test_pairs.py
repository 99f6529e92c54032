"""What the two processes of a block differ in, besides what is compared."""

from types import SimpleNamespace

import pytest

from harness.verdict import builds, pairs
from harness.verdict.pairs import PairedRuns
from harness.verdict.sides import Side


@pytest.fixture
def folders(tmp_path):
    for name in ("base", "the-other-one"):
        (tmp_path / name / "zarr").mkdir(parents=True)
    return tmp_path / "base", tmp_path / "the-other-one"


@pytest.fixture
def runs(folders, monkeypatch):
    monkeypatch.setattr(pairs, "Probe", lambda target: SimpleNamespace(__exit__=lambda *_: None))
    made = {
        name: Side(label=name, detail=name, environment={"PYTHONPATH": f"{folder}:/harness", "A": "1"}, overlay=folder)
        for name, folder in zip(("base", "head"), folders, strict=True)
    }
    return PairedRuns("zarrs", SimpleNamespace(target=None, digest="d"), made, seed=3)


def path_of(runs, side):
    overlay, harness = runs._environment(side)["PYTHONPATH"].split(":")
    assert harness == "/harness"
    return overlay


def test_a_folder_has_another_name_in_each_block_and_names_tell_nothing_of_the_side(runs, folders):
    with runs:
        seen = [path_of(runs, side) for _ in range(4) for side in ("base", "head")]
        assert len(set(seen)) == len(seen)
        assert len({len(path) for path in seen}) == 1
        assert not any(name in path for path in seen for name in ("base", "head", "other"))
        assert runs._environment("head")["A"] == "1"


def test_the_name_leads_to_the_sides_folder_while_the_comparison_lasts(runs, folders):
    with runs:
        link = runs._links.name
        for side, folder in zip(("base", "head"), folders, strict=True):
            from_link = pairs.Path(path_of(runs, side))
            assert from_link.resolve() == folder.resolve()
    assert not pairs.Path(link).exists()
    assert all((folder / "zarr").is_dir() for folder in folders)  # what was linked to stays


def test_this_environment_as_it_is_has_no_folder(runs):
    with runs:
        runs.sides = {"base": Side(label="=", detail="zarr", environment={"PYTHONPATH": "/harness"})}
        assert runs._environment("base") == {"PYTHONPATH": "/harness"}


def test_the_installed_zarr_is_copied_whole_and_once(tmp_path, monkeypatch):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path))
    folder = builds.installed()
    assert folder is not None
    import zarr

    here = pairs.Path(zarr.__file__).parent
    copied = {path.relative_to(folder / "zarr") for path in (folder / "zarr").rglob("*.py")}
    assert copied == {path.relative_to(here) for path in here.rglob("*.py")}
    assert builds.installed() == folder
    assert [path.name for path in folder.glob("*.dist-info")] == [f"zarr-{zarr.__version__}.dist-info"]
