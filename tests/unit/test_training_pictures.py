"""The pictures of docs/training.md."""

from xml.etree import ElementTree

from harness.site.epochs import of_epoch
from studies.training_pictures import stacked


def test_epochs_stand_below_each_other():
    pictures = [of_epoch(f"arm{number}", [0.01, 0.02], [0.02, 0.02], None, name=f"e{number}") for number in range(3)]
    root = ElementTree.fromstring(stacked(pictures))  # noqa: S314 - our own
    inner = root.findall("{http://www.w3.org/2000/svg}svg")
    tops = [int(one.attrib["y"]) for one in inner]
    heights = [int(one.attrib["height"]) for one in inner]
    assert all(below >= above + height for above, below, height in zip(tops, tops[1:], heights, strict=False))
    assert int(root.attrib["height"]) >= tops[-1] + heights[-1]
