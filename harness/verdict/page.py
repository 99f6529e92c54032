"""A verdict as a page: every pair's ratio as it was measured, in one file that needs no network and no script."""

import base64
import html
import math
from collections.abc import Callable, Iterator, Sequence

from harness.timeline.pictures import svg_picture
from harness.verdict.model import COUNTED, Finding, SideRecord, Verdict
from harness.verdict.statistics import Answer
from harness.verdict.words import (
    answer_of,
    bounds,
    cautions,
    count_change,
    headline,
    milliseconds,
    settling,
    what_intervals_hold,
)

_WIDTH, _HEIGHT, _LEFT = 720, 150, 40
_MIDDLE = 66
_LEAST_SPAN = math.log(1.1)
_MARGIN = 1.08
_TICKS = (0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0)
_CLOSEST = 34
"""Pixels between two labels of the axis."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60686f; --line: #d5d9dd; --paper: #fff;
  --faster: #0b7a75; --slower: #c2410c; --same: #60686f; --band: #eef1f3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaed; --soft: #9aa3ab; --line: #3a4147; --paper: #15181b;
  --faster: #4fd1c5; --slower: #fb923c; --same: #9aa3ab; --band: #20252a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.35rem; line-height: 1.35; } h2 { font-size: 1rem; margin: 2.2rem 0 .2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top; }
 th { font-weight: 600; color: var(--soft); } .scroll { overflow-x: auto; }
img, svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.faster { color: var(--faster); fill: var(--faster); stroke: var(--faster); }
.slower { color: var(--slower); fill: var(--slower); stroke: var(--slower); }
.same, .unknown { color: var(--same); fill: var(--same); stroke: var(--same); }
.dot { stroke: none; fill-opacity: .45; } .axis { stroke: var(--line); } .band { fill: var(--band); }
.soft { color: var(--soft); }
.interval { stroke-width: 5; stroke-linecap: round; } .median { stroke: var(--paper); stroke-width: 2; }
code { overflow-wrap: anywhere; }
"""

_CLASSES = {Answer.FASTER: "faster", Answer.SLOWER: "slower", Answer.SAME: "same", Answer.UNKNOWN: "unknown"}


def page(verdict: Verdict) -> str:
    """Return the page; whatever comes from outside is escaped."""
    body = "\n".join(_finding(finding, verdict) for finding in verdict.findings)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_e(verdict.base.label)} against {_e(verdict.head.label)}</title><style>{_STYLE}</style></head><body>
<h1>{_e(headline(verdict))}</h1>{_paragraph(verdict.subject)}
{_paragraph(" ".join(cautions(verdict)))}{_settling(verdict)}
<div class="scroll"><table>
<tr><th>base</th>{_side(verdict.base)}</tr><tr><th>head</th>{_side(verdict.head)}</tr>
<tr><th>target</th><td colspan="2">{_e(verdict.target)}</td></tr>
<tr><th>machine</th><td colspan="2">{_e(verdict.machine)}; {_e(verdict.started)}; {verdict.seconds:.0f} s</td></tr>
<tr><th>command</th><td colspan="2"><code>{_e(verdict.command)}</code></td></tr></table></div>
<p class="soft">Each dot is a pair: head's seconds over base's, measured right after one another. The line is
the interval of the typical ratio, by blocks; within the band there is no difference larger than
{verdict.smallest_effect:.0%}. {_e(what_intervals_hold(verdict))}</p>
{body}
</body></html>
"""


def _paragraph(text: str | None) -> str:
    return f"<p>{_e(text)}</p>" if text else ""


def _settling(verdict: Verdict) -> str:
    command = settling(verdict)
    return f"<p>To settle what is open: <code>{_e(command)}</code></p>" if command else ""


def _side(side: SideRecord) -> str:
    return f"<td>{_e(side.label)}</td><td>{_e(side.detail)}</td>"


def _finding(finding: Finding, verdict: Verdict) -> str:
    said = f"{answer_of(finding, verdict.smallest_effect)} {bounds(finding)}"
    reason = finding.na or finding.error or finding.why
    return f"""<section><h2>{_e(finding.reader)} · {_e(finding.workload)}</h2>
<p class="{_CLASSES[finding.answer]}"><strong>{_e(said)}</strong></p>
{f'<p class="soft">{_e(reason)}</p>' if reason else ""}
{picture(finding, verdict.smallest_effect) if finding.pairs else ""}
<div class="scroll"><table><tr><th>base, ms</th><th>head, ms</th><th>blocks</th>{_headings()}<th>byte ranges</th></tr>
<tr><td>{milliseconds(finding.base_seconds)}</td><td>{milliseconds(finding.head_seconds)}</td>
<td>{finding.looked_at}</td>{_counts(finding)}<td>{_plan(finding)}</td></tr></table></div>
{_timelines(finding)}</section>"""


def _timelines(finding: Finding) -> str:
    """Both sides' chunks above each other, on the same axis."""
    if not finding.timelines:
        return ""
    span = max(one.end_ns - one.begin_ns for one in finding.timelines.values())
    drawn = "".join(_image(side, svg_picture(one, span_ns=span)) for side, one in finding.timelines.items())
    said = "Where the time of each chunk went, one recorded execution each"
    return f"<details><summary>{said}</summary>{drawn}</details>"


def _image(side: str, svg: str) -> str:
    """As an image, since styles of inline SVG would hold for the whole page."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<h3>{_e(side)}</h3><img alt="Timeline of {_e(side)}" src="data:image/svg+xml;base64,{data}">'


def _headings() -> str:
    return "".join(f"<th>{name.replace('_', ' ')}</th>" for name in COUNTED)


def _counts(finding: Finding) -> str:
    return "".join(f"<td>{_e(count_change(finding, name))}</td>" for name in COUNTED)


def _plan(finding: Finding) -> str:
    if finding.plan is None:
        return "-"
    return (
        "the same" if finding.plan.same else f"{finding.plan.only_base} only base, {finding.plan.only_head} only head"
    )


def picture(finding: Finding, smallest: float) -> str:
    """Return the pairs' ratios as SVG: a dot each, on a logarithmic axis that always shows equal speed."""
    ratios = [pair.log_ratio for pair in finding.pairs]
    low, high = _span([*ratios, math.log(finding.low or 1), math.log(finding.high or 1)])

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - 2 * _LEFT)

    edge = math.log1p(smallest)
    band = (x(max(-edge, low)), x(min(edge, high)))
    name = _CLASSES[finding.answer]
    dots = "".join(
        f'<circle class="dot {name}" cx="{x(value):.1f}" cy="{_MIDDLE - 8 - 50 * _jitter(i):.1f}" r="3"/>'
        for i, value in enumerate(ratios)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_e(bounds(finding))}">'
        f'<rect class="band" x="{band[0]:.1f}" width="{band[1] - band[0]:.1f}" y="4" height="{_MIDDLE + 26}"/>'
        f'<line class="axis" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{_MIDDLE + 30}"/>{dots}'
        f"{_interval(finding, name, x)}{''.join(_axis(low, high, x))}</svg>"
    )


def _interval(finding: Finding, name: str, x: Callable[[float], float]) -> str:
    if finding.ratio is None or finding.low is None or finding.high is None:
        return ""
    y = _MIDDLE + 14
    low, middle, high = (x(math.log(value)) for value in (finding.low, finding.ratio, finding.high))
    return (
        f'<line class="interval {name}" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'
        f'<circle class="median {name}" cx="{middle:.1f}" cy="{y}" r="6"/>'
    )


def _axis(low: float, high: float, x: Callable[[float], float]) -> Iterator[str]:
    y, last = _MIDDLE + 48, -math.inf
    for tick in sorted(_TICKS, key=lambda t: (t != 1.0, t)):
        place = x(math.log(tick))
        if (
            low <= math.log(tick) <= high
            and abs(place - last) >= _CLOSEST
            and (tick == 1.0 or abs(place - x(0)) >= _CLOSEST)
        ):
            last = place if tick != 1.0 else last
            yield f'<text x="{place:.1f}" y="{y}" text-anchor="middle">{tick:g}</text>'
    yield f'<text x="{_LEFT}" y="{y + 20}">← head is faster</text>'
    yield f'<text x="{_WIDTH - _LEFT}" y="{y + 20}" text-anchor="end">head is slower →</text>'


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the axis: all values and equal speed, with some room."""
    low, high = min(*values, -_LEAST_SPAN), max(*values, _LEAST_SPAN)
    middle, half = (low + high) / 2, (high - low) / 2 * _MARGIN
    return middle - half, middle + half


def _jitter(number: int) -> float:
    """Return a height between 0 and 1 that spreads neighbouring dots (the golden ratio's multiples)."""
    return (number * 0.6180339887) % 1.0


def _e(text: str) -> str:
    return html.escape(str(text))
