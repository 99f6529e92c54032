"""The tables of docs/reliability.md: what happened, collected while the tests run, written where they are asked to."""

import re
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- made by tests/readers/test_faults.py -->", "<!-- end -->"
RIGHT, FAILED, NOT_DECODED = "right", "failed", "time only"
RECORDED_WRONG, LOST = "RECORDED WRONG", "LOST"
_VOLATILE = [
    (r"^[\w+-]+: (no answer within|its worker died)", r"\1"),
    (r" \((the store answered .*|requests that the store .*|faults injected.*)\)$", ""),
    (r"http://[\d.]+:\d+", "http://..."),
    (r" in [\d.]+ ?(µs|ms|s)\b", ""),
    (r"[(\[]\d+, \d+, \d+[)\]]", "(...)"),
    (r"c/\d+/\d+/\d+", "c/..."),
    (r"\d{3,}\.\.\d+|\d+\.\.\d{4,}", "..."),
    (r"\[\d+, \d+\)", "[...)"),
    (r"b'[^']*'|b\"[^\"]*\"", "..."),
    (r"0x[0-9a-f]+", "0x..."),
    (r"total size \d+", "total size ..."),
    (r"aws_request_id: \"\w+\"", 'aws_request_id: "..."'),
    (r"chunk_id=\w+", "chunk_id=..."),
]
"""What differs from run to run or names the reader, and what the store adds to a message."""


@dataclass
class FaultTable:
    """What happened, by fault and reader, and what a failing reader said."""

    columns: list[str]
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    processes: dict[str, str] = field(default_factory=dict)

    def note(self, title: str, column: str, outcome: str, message: str | None = None) -> None:
        """Keep a cell; messages that differ only in volatile parts share a number."""
        if message is not None:
            said = steady(message)
            if said not in self.messages:
                self.messages.append(said)
            outcome += f" [{self.messages.index(said) + 1}]"
        self.rows.setdefault(title, {})[column] = outcome

    def markdown(self) -> str:
        """Return both tables and the messages."""
        lines = [f"| fault | {' | '.join(self.columns)} |", "|---" * (len(self.columns) + 1) + "|"]
        lines += [f"| {title} | {' | '.join(row[name] for name in self.columns)} |" for title, row in self.rows.items()]
        lines += ["", *(f"{number}. {message}" for number, message in enumerate(self.messages, 1))]
        lines += ["", "| what happened to a process or the disk | what came of it |", "|---|---|"]
        lines += [f"| {title} | {outcome} |" for title, outcome in self.processes.items()]
        return "\n".join(lines)

    def write(self, file: Path) -> None:
        """Put the tables between the marks of `file`."""
        before, rest = file.read_text().split(BEGIN)
        after = rest.split(END)[1]
        file.write_text(f"{before}{BEGIN}\n{self.markdown()}\n{END}{after}")


def steady(message: str) -> str:
    """Return a reader's own words without what differs from run to run, fit for a Markdown list."""
    for pattern, instead in _VOLATILE:
        message = re.sub(pattern, instead, message)
    return "`" + " ".join(message.replace("`", "'").split())[:300] + "`"


def read(file: Path) -> tuple[list[list[str]], list[list[str]]]:
    """Return the cells of both tables in `file`, headings first."""
    text = file.read_text().split(BEGIN)[1].split(END)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    cells = [row for row in rows if set("".join(row)) != {"-"}]
    second = next(number for number, row in enumerate(cells) if len(row) == 2)
    return cells[:second], cells[second:]
