"""All checks, in an order in which each has what it needs, and in less than ten seconds."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from osstorchconnector.cli.doctor_checks import machine, network, service, settings, software, speed
from osstorchconnector.cli.doctor_checks.bundle import write_bundle
from osstorchconnector.cli.doctor_checks.finding import Finding, State, ok, warning
from osstorchconnector.cli.doctor_checks.probing import Probe, run_probes
from osstorchconnector.cli.doctor_checks.report import STATUS, Report
from osstorchconnector.cli.doctor_checks.target import Target
from osstorchconnector.cli.ending import report
from osstorchconnector.cli.uninterrupted import uninterrupted
from osstorchconnector.connection.stats import stats
from osstorchconnector.exceptions import OssError

# Together less than ten, also if each is used up.
_ALL_SECONDS: Final = 9.0
_NETWORK_SECONDS: Final = 3.5
_SERVICE_SECONDS: Final = 2.5
_SPEED_SECONDS: Final = 3.0
# They run beside the checks of the network. A busy machine may need seconds to import what they use.
_LOCAL_SECONDS: Final = 3.5
# A measurement of less says nothing.
_LEAST_SECONDS: Final = 0.5


def examine(options: argparse.Namespace) -> int:
    """Make all checks, and return the exit status."""
    started = time.monotonic()
    shown = Report(shown=not options.json)
    target, findings = settings.settings(options)
    shown.add("Configuration", findings)
    _check(target, options, shown, started + _ALL_SECONDS)
    seconds = time.monotonic() - started
    document = shown.document(options.uri, seconds)
    counts = [one["state"] for one in document["findings"]]
    shown.say(f"failures: {counts.count('failure')}, warnings: {counts.count('warning')}, in {seconds:.1f} s")
    if options.json:
        sys.stdout.write(f"{json.dumps(document, indent=1, ensure_ascii=True)}\n")
    if options.bundle:
        try:
            write_bundle(options.bundle, document, "".join(f"{line}\n" for line in shown.lines), target)
        except (OSError, OssError) as error:
            report("doctor", error)
            return STATUS[State.FAILURE]
        report("doctor", f"wrote {options.bundle}: look into it before you send it")
    return STATUS[shown.state()]


def _check(target: Target | None, options: argparse.Namespace, shown: Report, deadline: float) -> None:
    config = None if target is None else target.config
    local = [
        Probe("machine", lambda: machine.machine(config), _LOCAL_SECONDS),
        Probe("software", software.software, _LOCAL_SECONDS),
    ]
    if target is None:
        run_probes(local)
        shown.add("Machine", local[0].result())
        shown.add("Software", local[1].result())
        return
    way = network.Way(target)
    about_key = Probe("access key", lambda: settings.credentials(target), _NETWORK_SECONDS)
    about_way = Probe("network", way.findings, _NETWORK_SECONDS)
    beside = Probe("internal endpoint", lambda: network.internal_instead(target), _NETWORK_SECONDS)
    run_probes([about_key, about_way, beside, *local])
    shown.add("Configuration", about_key.result())
    shown.add("Network", [*about_way.result(), *beside.result()])
    usable = not any(one.state is State.FAILURE for one in about_key.result())
    if way.open and usable and (target.region or target.config.signature_version == "v1"):
        _ask(target, options, shown, deadline)
    shown.add("Machine", local[0].result())
    shown.add("Software", local[1].result())


def _ask(target: Target, options: argparse.Namespace, shown: Report, deadline: float) -> None:
    client = target.client()
    before = stats().retries
    doors: list[service.Door] = []

    def knock() -> Sequence[Finding]:
        doors.append(service.door(target, client))
        return doors[0].findings

    knocking = Probe("service", knock, _SERVICE_SECONDS)
    run_probes([knocking])
    shown.add("Service", knocking.result())
    if not doors or not doors[0].open:
        return
    listed = service.Listed()

    def read() -> Iterator[Finding]:
        yield from service.may_list(target, client, listed)
        yield from service.may_read(target, client, listed)

    probes = [
        Probe("identity", lambda: service.identity(target), _SERVICE_SECONDS),
        Probe("read", read, _SERVICE_SECONDS),
        Probe("quota", lambda: service.quota(target, client), _SERVICE_SECONDS),
    ]
    written: list[Finding] = []

    def write() -> None:
        # In this thread: the end of the program does not wait for others, and the object would stay.
        if options.write:
            with uninterrupted():
                written.extend(service.may_write(target, client))
        elif target.bucket:
            written.append(ok("write", "not tried: --write tries it with an object that is deleted again"))

    run_probes(probes, write)
    shown.add("Service", [*(finding for probe in probes for finding in probe.result()), *written])
    left = min(_SPEED_SECONDS, deadline - time.monotonic())
    if left < _LEAST_SECONDS:
        skipped = warning("speed", "not measured: the checks before it took too long", "see the lines above")
        shown.add("Speed", [skipped, _about_retries(_since(before))])
        return
    measuring = Probe("speed", lambda: speed.speed(target, client, listed), left)
    run_probes([measuring])
    shown.add("Speed", [*measuring.result(), _about_retries(_since(before))])


def _since(before: Mapping[str, int]) -> dict[str, int]:
    return {cause: count - before.get(cause, 0) for cause, count in stats().retries.items()}


def _about_retries(retries: Mapping[str, int]) -> Finding:
    """Return what the causes of retries say."""
    text = ", ".join(f"{count} after {cause.replace('_', ' ')}" for cause, count in retries.items() if count)
    values = {cause: count for cause, count in retries.items() if count}
    if retries.get("throttled"):
        remedy = "lower max_concurrency or the number of workers, spread the keys over prefixes, or ask for more QPS"
        return warning("throttling", f"requests of this check were sent again: {text}", remedy, **values)
    if text:
        remedy = "the network or the service loses answers: try again, and see the log of a job for their objects"
        return warning("throttling", f"none, but requests were sent again: {text}", remedy, **values)
    return ok("throttling", "no request was refused or sent again")
