"""What `zcb doctor --target T` looks at: credentials, regions, the clock and the network between here and there."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from harness.cloud import cost, metadata
from harness.doctor.checks import Row, Seen, Verdict
from harness.errors import ZcbError
from harness.machine import network
from harness.targets.resolve import resolve
from harness.targets.target import DEFAULT_REGION, EMBEDDED, Target

_GCP_FILE = Path(".config/gcloud/application_default_credentials.json")
_AZURE_VARIABLES = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
)
_FILES = ("shared-credentials-file", "config-file", "sso", "assume-role", "custom-process", "login")
"""Methods of botocore that read ~/.aws, which obstore, object_store and zarrs do not."""
_CLOUDS = {"s3": "aws", "gs": "gcp"}
_FAST_GBIT_S = 50.0
_CLOCK_WARNING = 60.0
_CLOCK_REFUSED = 900.0  # S3 refuses signatures that are older or newer than a quarter of an hour


class TargetChecks:
    """The checks of one target; what several of them need is asked for once.

    Parameters
    ----------
    name
        As ``--target`` takes it; None where no target was named.
    """

    def __init__(self, name: str | None) -> None:
        self._name = name

    def rows(self) -> Sequence[Row]:
        """Return what is looked at, in the order in which a person would mend things."""
        place = "name a table of targets.toml or a URL; `zcb store start` makes `embedded`"
        clock = "let the system set its clock: `timedatectl set-ntp true`"
        target = Row("target", "everything there", self._see_target, place, "missing")
        interface = Row("network interface", "raw network rates", self._see_interface, "{cure}")
        if self._name is None:
            return [interface]
        if isinstance(self._target, ZcbError):
            return [target]
        rows = [target, Row("credentials", "reading the target", self._see_credentials, "{cure}"), interface]
        if self._is_cloud:
            rows.append(Row("region", "free traffic, latency", self._see_region, "{cure}"))
            rows.append(Row("clock, against store", "signed requests", self._see_clock, clock))
        return rows

    @cached_property
    def _target(self) -> Target | ZcbError | None:
        try:
            return resolve(self._name) if self._name is not None else None
        except ZcbError as error:
            return error

    @property
    def _place(self) -> Target:
        if not isinstance(self._target, Target):
            raise TypeError("there is no target")
        return self._target

    @property
    def _scheme(self) -> str:
        return urlsplit(self._place.url).scheme

    @property
    def _is_cloud(self) -> bool:
        """Whether it is a cloud's own store, whose metadata can be asked for."""
        return self._place.name != EMBEDDED and self._place.endpoint is None and self._scheme in _CLOUDS

    @cached_property
    def _vm(self) -> metadata.Vm | None:
        return metadata.this_vm()

    @cached_property
    def _bucket(self) -> metadata.Answer:
        return metadata.ask_bucket(self._place)

    def _see_target(self) -> Seen:
        found = self._target
        return Seen(isinstance(found, Target), found.url if isinstance(found, Target) else str(found))

    def _see_credentials(self) -> Seen:
        """Whether the target's chain finds any; what they are is never looked at."""
        if self._place.anonymous or self._scheme in ("http", "https"):
            return Seen(True, "not needed: anonymous")
        find = {"s3": _aws_credentials, "gs": _gcp_credentials, "az": _azure_credentials}[self._scheme]
        return find()

    def _see_interface(self) -> Seen:
        """Which interfaces lead there, at what rate, and what merges packets before they are counted."""
        away = self._target is not None and self._place.name != EMBEDDED
        host = _AWAY if self._target is None else urlsplit(self._place.service_url).hostname or ""
        interfaces = (() if self._target is None else self._place.nic) or network.interfaces_to(host)
        rate = self._gbit_s(interfaces)
        merging = {name: network.receive_offloads(name) for name in interfaces}
        hidden = [name for name, on in merging.items() if set(on or ()) & set(network.MERGE_BEFORE_COUNTING)]
        slow = away and self._is_cloud and rate is not None and rate < _FAST_GBIT_S
        flags = ", ".join(sorted({offload for on in merging.values() for offload in on or ()})) or "no offloads"
        cures = []
        if slow:
            cures.append(f"measure on a VM of {_FAST_GBIT_S:.0f} to 200 Gbit/s (docs/cloud.md)")
        if away and hidden:
            cures.append(f"`ethtool -K {hidden[0]} rx-gro-hw off lro off` as root, else headers are undercounted")
        found = f"{'+'.join(interfaces)}: {'rate not told' if rate is None else f'{rate:g} Gbit/s'}, {flags}"
        return Seen(not cures, found, words={"cure": "; ".join(cures)})

    def _gbit_s(self, interfaces: Sequence[str]) -> float | None:
        """Return the rate as the drivers claim it, else as the price table has it for this type of VM."""
        rates = [network.gbit_s(interface) for interface in interfaces]
        if None not in rates:
            return sum(rate for rate in rates if rate is not None)
        vm = self._vm if self._target is not None and self._is_cloud else None
        known = {row.type: row.gbit_s for row in cost.load_prices().vm}
        return known.get(vm.type) if vm is not None else None

    def _see_region(self) -> Seen:
        """Whether VM and bucket are in one region: else latency is another, and every byte is charged."""
        bucket, vm = self._bucket.region or self._place.region, self._vm
        here = f"VM {vm.type} in {vm.cloud}'s {vm.region}" if vm else "no cloud's VM"
        there = f"bucket in {bucket}" if bucket else "bucket's region not told"
        same = vm is not None and vm.region == bucket and vm.cloud == _CLOUDS[self._scheme]
        unsure = vm is None or (bucket is None and vm.cloud == _CLOUDS[self._scheme])
        told = self._place.region or DEFAULT_REGION
        if self._scheme == "s3" and bucket not in (None, told):
            cure = f"readers are told {told}: export AWS_REGION={bucket}, or say `region` in targets.toml"
            return Seen(False, f"{there}, {here}", "wrong", {"cure": cure})
        where = bucket or "the bucket's region"
        cure = f"measure on a VM in {where}: other traffic is charged by the byte"
        return Seen(same, f"{there}, {here}", "warn" if unsure else "wrong", {"cure": cure})

    def _see_clock(self) -> Seen:
        """Whether the clocks agree, which signatures need."""
        offset = self._bucket.clock_offset_seconds
        if offset is None:
            raise ValueError("the store sent no date")
        found = f"{abs(offset):.0f} s {'ahead' if offset > 0 else 'behind'}"
        return Seen(abs(offset) < _CLOCK_WARNING, found, "warn" if abs(offset) < _CLOCK_REFUSED else "wrong")


_AWAY = "192.0.2.1"  # an address set aside for documentation: the default route leads there, and nothing is sent


def _aws_credentials() -> Seen:
    import botocore.session  # slow to import, and every command imports this module
    from botocore.exceptions import BotoCoreError

    try:
        found = botocore.session.get_session().get_credentials()
    except BotoCoreError as error:
        return _no_credentials("wrong", f"unusable ({type(error).__name__})", "correct ~/.aws or unset AWS_PROFILE")
    if found is None:
        return _no_credentials(
            "missing",
            "none in AWS's chain",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the VM a role; for public data: anonymous = true",
        )
    cure = "not every reader looks into ~/.aws: `aws configure export-credentials --format env` prints what to set"
    return Seen(found.method not in _FILES, f"there, from {found.method}", "warn", {"cure": cure})


def _gcp_credentials() -> Seen:
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    path = Path(named) if named else Path.home() / _GCP_FILE
    if path.is_file():
        return Seen(True, "there, from a file")
    if named:
        return _no_credentials("wrong", "GOOGLE_APPLICATION_CREDENTIALS names no file", "let it name the key's file")
    vm = metadata.this_vm()
    if vm is not None and vm.cloud == "gcp":
        return Seen(True, "there, from the VM's account")
    return _no_credentials(
        "missing",
        "none in Google's chain",
        "`gcloud auth application-default login`; for public data: anonymous = true",
    )


def _azure_credentials() -> Seen:
    there = [name for name in _AZURE_VARIABLES if os.environ.get(name)]
    if there:
        return Seen(True, f"there, from {there[0]}")
    return _no_credentials(
        "warn",
        "none in the environment",
        "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN; a VM's managed identity is not looked for",
    )


def _no_credentials(verdict: Verdict, found: str, cure: str) -> Seen:
    return Seen(False, found, verdict, {"cure": cure})
