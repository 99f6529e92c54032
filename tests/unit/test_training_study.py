"""The pictures of docs/training.md, as studies make them."""

from xml.etree import ElementTree

from harness.site.epochs import of_epoch
from studies.training import bars, stacked

SVG = "{http://www.w3.org/2000/svg}"


def test_epochs_stand_below_each_other():
    pictures = [of_epoch(f"arm{number}", [0.01, 0.02], [0.02, 0.02], None, name=f"e{number}") for number in range(3)]
    root = ElementTree.fromstring(stacked(pictures))  # noqa: S314 - our own
    inner = root.findall(f"{SVG}svg")
    tops = [int(one.attrib["y"]) for one in inner]
    heights = [int(one.attrib["height"]) for one in inner]
    assert all(below >= above + height for above, below, height in zip(tops, tops[1:], heights, strict=False))
    assert int(root.attrib["height"]) >= tops[-1] + heights[-1]


def test_an_arm_is_a_row_of_bars_as_long_as_its_figures():
    keys = ("accelerators_fed", "cpu_seconds_per_1000_samples", "requests_per_sample")
    arms = [
        {
            "arm": name,
            "first_batch_seconds": first,
            "step_ms": 20.0,
            "step_seconds": 0.02 + value / 1e3,
            **dict.fromkeys(keys, value),
        }
        for name, first, value in (("one", 0.1, 2.0), ("two", None, 1.0))
    ]
    root = ElementTree.fromstring(bars(arms))  # noqa: S314 - our own
    lengths = [float(one.attrib["width"]) for one in root.findall(f"{SVG}rect[@class='flight']")]
    panels = list(zip(lengths[::2], lengths[1::2], strict=True))
    assert panels[:-1] == [(lengths[0], lengths[0] / 2)] * 4
    assert panels[-1] == (lengths[0], 0)
    said = [one.text for one in root.findall(f"{SVG}text")]
    assert said.count("two") == 1
    assert said[-2:] == ["100", "-"]
