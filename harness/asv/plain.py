"""Reads timed by asv itself, in the benchmark's own process: the second source beside the conductor."""

from typing import TYPE_CHECKING

from harness.asv.tracked import environment_target

if TYPE_CHECKING:
    from harness.measure.evidence import Probe
    from harness.readers.base import Reader
    from harness.workload.cases import Case


class Plain:
    """Base of ``time_read`` benchmarks: `prepare` in ``setup``, then `read` in the timed body."""

    version = "1"
    timeout = 120
    number = 1
    rounds = 1
    repeat = (3, 7, 2.0)
    warmup_time = 0.0
    _reader: "Reader"
    _probe: "Probe"

    def prepare(self, reader: str, case: "Case") -> None:
        """Open a reader, read once to warm its connections up, and compare that with the truth.

        asv calls this before every sample, so that each one starts as the conductor's do. No other measurement runs
        on an embedded store until `teardown`.
        """
        from harness.errors import TooLargeError, UnsupportedError
        from harness.measure.evidence import Probe
        from harness.readers import reader_class
        from harness.targets.resolve import resolve
        from harness.workload.create import create_workload

        target = resolve(environment_target())
        with Probe(target) as probe:
            probe.demand_no_faults()
        try:
            workload = create_workload(case.pattern, target, dataset=case.dataset, parameters=case.parameters)
            self._probe = Probe(target)
            opened = reader_class(reader)()
            opened.open(workload)
        except (UnsupportedError, TooLargeError) as reason:
            raise NotImplementedError(str(reason)) from reason
        self._reader = opened  # one that cannot be opened holds nothing that could be closed
        self._reader.check(workload, self._reader.read())

    def read(self) -> None:
        """Execute the workload once; what asv times."""
        self._reader.read()

    def teardown(self, *_: object) -> None:
        """Close the reader's connections."""
        if hasattr(self, "_reader"):
            self._reader.close()
        if hasattr(self, "_probe"):
            self._probe.__exit__(None, None, None)
