"""Training workloads: batches of random crops, of one data set or of two, as a file that every arm executes alike.

The crops of each data set are a workload of the pattern ``random_crops``, whose reads are the samples in the order in
which they are wanted: sample `s` of batch `b` of epoch `e` is read ``(e * batches + b) * batch + s``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from harness.errors import BadUseError, check_schema
from harness.paths import contents
from harness.targets.resolve import found_again
from harness.targets.target import Target
from harness.workload import model as workloads
from harness.workload.create import Agreement, beginning, create_workload
from harness.workload.model import Workload, check_memory
from harness.workload.patterns import DEFAULT_CROPS_AT_ONCE, Parameters

SCHEMA = 1
PATTERN = "training"
QUESTION = "How many training steps a second does an arm feed with batches of random crops?"

DEFAULT_EPOCHS = 2
DEFAULT_BATCHES = 24
DEFAULT_BATCH = 16
DEFAULT_AHEAD = 4
DEFAULT_STEP_MS = 20.0

SHUFFLE = "uniform positions, drawn with replacement"
"""How samples are drawn: what a shuffle of the data set's crops is when there are many more of them than samples."""

_EXACT = {"uint8": 8, "int8": 8, "uint16": 16, "int16": 16}
"""Types whose every value is a float32: width in bits."""

Index = Literal["cold", "warm"]
_MOST = 1000
_Count = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """Batches to be fed, in order: what is in each, and how far ahead an arm may fetch."""

    schema: int
    pattern: str
    workloads: tuple[Workload, ...]
    """The crops of each data set, all of one seed: sample for sample they are aligned."""
    epochs: _Count
    batches: Annotated[int, msgspec.Meta(ge=2, le=_MOST)]
    """Batches of an epoch: the first one starts the loop, so there is another."""
    batch: _Count
    """Samples of a batch."""
    ahead: Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
    """Batches that an arm may have under way or ready beside the one that is wanted."""
    index: Index
    """``cold``: shard indexes are fetched anew for each sample; ``warm``: kept from one sample to the next."""
    shuffle: str
    """How the samples were drawn, in words; `Parameters.seed` of the workloads is the seed."""

    @property
    def target(self) -> Target:
        """Where it reads from."""
        return self.workloads[0].target

    @property
    def samples_per_epoch(self) -> int:
        """Samples of an epoch; one has a crop of each data set."""
        return self.batches * self.batch

    @property
    def tensor_bytes(self) -> int:
        """Bytes of an epoch's final tensors, float32."""
        return (
            sum(work.array_bytes // np.dtype(work.array.dtype).itemsize * 4 for work in self.workloads) // self.epochs
        )

    def first_batch(self) -> Workload:
        """Return the crops of the first batch, of the first data set, as a workload that any reader executes.

        Raises
        ------
        StoreError
            The target cannot be reached.
        """
        return beginning(self.workloads[0], self.batch)

    @property
    def label(self) -> str:
        """Short name for tables."""
        names = " + ".join(work.array.key.rpartition("/")[2] for work in self.workloads)
        crop = Parameters.text(self.workloads[0].parameters.crop or self.workloads[0].array.chunk_shape)
        return f"{PATTERN} {names}, crops of {crop}, {self.epochs} x {self.batches} batches of {self.batch}"

    def numbers(self, epoch: int) -> list[range]:
        """Return the samples of each batch of an epoch, as numbers of the workloads' reads."""
        first = epoch * self.samples_per_epoch
        return [range(first + b * self.batch, first + (b + 1) * self.batch) for b in range(self.batches)]


def create(
    target: Target,
    datasets: Sequence[str | None],
    *,
    crop: tuple[int, ...] | None = None,
    epochs: int = DEFAULT_EPOCHS,
    batches: int = DEFAULT_BATCHES,
    batch: int = DEFAULT_BATCH,
    ahead: int = DEFAULT_AHEAD,
    index: Index = "cold",
    seed: int = 0,
    at_once: int = DEFAULT_CROPS_AT_ONCE,
    in_flight: int = workloads.DEFAULT_IN_FLIGHT,
    agree: Agreement | None = None,
) -> Training:
    """Draw the samples of a training run and return them with their truth.

    Parameters
    ----------
    target
        Where to read from.
    datasets
        One, or two of the same shape, of which each sample takes the crop at the same place; None is the array at the
        target's URL, or the pattern's own.
    crop
        Elements per axis; None is a chunk of the first data set.
    at_once
        Samples that an arm reads at the same time.
    agree
        As `harness.workload.create.create_workload` takes it.

    Raises
    ------
    BadUseError
        Data sets of different shapes, a type that float32 cannot hold exactly, or what the pattern refuses.
    StoreError
        The target cannot be reached.
    """
    most = 2
    if not 1 <= len(datasets) <= most or len(set(datasets)) < len(datasets):
        raise BadUseError("a sample takes a crop of one data set, or of two different ones")
    for name, value, least in (
        ("epochs", epochs, 1),
        ("batches", batches, 2),
        ("batch", batch, 1),
        ("ahead", ahead, 0),
    ):
        if not least <= value <= _MOST:
            raise BadUseError(f"{name} must be between {least} and {_MOST}, not {value}")
    made: list[Workload] = []
    for dataset in datasets:
        size = crop or (made[0].parameters.crop if made else None)
        asked = Parameters(crop=size, crops=epochs * batches * batch, seed=seed, concurrent_reads=at_once)
        work = create_workload(
            "random_crops", target, dataset=dataset, parameters=asked, in_flight=in_flight, agree=agree
        )
        if size is None:  # a second data set has other chunks
            work = msgspec.structs.replace(
                work, parameters=msgspec.structs.replace(work.parameters, crop=work.array.chunk_shape)
            )
        made.append(work)
    training = Training(
        schema=SCHEMA,
        pattern=PATTERN,
        workloads=tuple(made),
        epochs=epochs,
        batches=batches,
        batch=batch,
        ahead=ahead,
        index=index,
        shuffle=SHUFFLE,
    )
    _check(training)
    check_memory(training.tensor_bytes)
    return training


def _check(training: Training) -> None:
    """Refuse what cannot be fed; a BadUseError says what."""
    first = training.workloads[0]
    for work in training.workloads:
        if work.array.shape != first.array.shape:
            raise BadUseError(
                f"{work.array.key!r} is {Parameters.text(work.array.shape)} and {first.array.key!r} "
                f"{Parameters.text(first.array.shape)}: a sample takes the same place of both"
            )
        if np.dtype(work.array.dtype).name not in (*_EXACT, "float16", "float32"):
            raise BadUseError(f"{work.array.dtype} does not fit into float32 exactly: batches are checked bit by bit")
        if len(work.reads) != training.epochs * training.samples_per_epoch:
            raise BadUseError(f"{len(work.reads)} reads are not {training.epochs} x {training.batches} batches")
        if work.reads != first.reads:
            raise BadUseError("the samples of the data sets do not lie at the same places")
        if work.truth.reads_crc32c is None and training.samples_per_epoch:
            raise BadUseError("the truth of a sample is its crop's checksum, and there is none")


def encode(training: Training) -> bytes:
    """Return it as JSON."""
    return msgspec.json.format(msgspec.json.encode(training), indent=1) + b"\n"


def decode(data: bytes | dict[str, Any], *, origin: str = "training") -> Training:
    """Read it from JSON text or its parsed form.

    Raises
    ------
    BadUseError
        Not a training workload, or one of another version.
    """
    try:
        fields = msgspec.json.decode(data) if isinstance(data, bytes) else data
        if not isinstance(fields, dict) or fields.get("pattern") != PATTERN:
            raise BadUseError(f"{origin} is not a training workload: `zcb workload training` makes one")
        check_schema(fields, SCHEMA, origin)
        works = fields.get("workloads")
        if not isinstance(works, list) or not 1 <= len(works) <= 2:
            raise BadUseError(f"{origin} is not a training workload: it has no data set, or more than two")
        for work in works:
            workloads.decode(work, origin=origin)
        training = msgspec.convert(fields, Training)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadUseError(f"{origin} is not a training workload: {error}") from error
    _check(training)
    return training


def load(path: Path) -> Training:
    """Read a training workload's file, for the embedded store as it runs now, on whatever port.

    Raises
    ------
    BadUseError
        What is wrong with the file.
    StoreError
        It is of the embedded store, which is not running.
    """
    try:
        data = contents(path)
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error
    training = decode(data, origin=str(path))
    works = tuple(msgspec.structs.replace(work, target=found_again(work.target)) for work in training.workloads)
    return msgspec.structs.replace(training, workloads=works)
