"""The original and this package, compared name by name and case by case. What differs stands in the migration guide."""

import json
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

from .original import ROOT, installed, named_endpoint, run
from .original_differences import DIFFERENCES
from .original_programs import BEHAVIOUR, INTERFACE

# Each of the two runs imports torch, and some cases of the original wait until they are ended.
pytestmark = pytest.mark.slow(300)

GUIDE = ROOT / "docs" / "guides" / "migration.md"
OURS = ROOT / "python"
HUGE = 40 << 20
ON_PURPOSE = {about for difference in DIFFERENCES for about in difference.about}


def interface(package: Path, result: Path) -> dict[str, Any]:
    run(package, INTERFACE, str(result))
    found: dict[str, Any] = json.loads(result.read_text())
    return found


@pytest.fixture(scope="module")
def interfaces(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("interfaces")
    return interface(installed(), folder / "original"), interface(OURS, folder / "ours")


def differences(name: str, theirs: list[list[Any]] | None, ours: list[list[Any]] | None) -> Iterator[str]:
    """Yield how a function takes other arguments than the original's; more arguments are no difference."""
    if theirs is None or ours is None:
        if theirs != ours:
            yield f"{name}: a function on one side only"
        return
    places = {parameter[0]: (place, parameter) for place, parameter in enumerate(ours)}
    for place, (parameter, kind, default) in enumerate(theirs):
        if kind == "VAR_KEYWORD":
            continue
        if parameter not in places:
            yield f"{name}: no parameter {parameter}"
            continue
        own_place, (_, own_kind, own_default) = places[parameter]
        if kind == "POSITIONAL_OR_KEYWORD" and (own_place, own_kind) != (place, kind):
            yield f"{name}: {parameter} has another place"
        # pybind11 does not say defaults.
        if default not in {"", own_default}:
            yield f"{name}: {parameter} is {own_default} by default, not {default}"
    known = {parameter for parameter, _, _ in theirs}
    native = any(default == "" for _, _, default in theirs) or not theirs
    for parameter, kind, default in ours:
        if parameter not in known and default is None and not kind.startswith("VAR") and not native:
            yield f"{name}: {parameter} is needed"


def interface_differences(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, described in theirs.items():
        own = ours.get(name)
        if own is None:
            found[name] = [f"{name} is missing"]
            continue
        missing = set(described.get("names", [])) - set(own.get("names", []))
        if missing:
            found[name] = [f"{name} lacks {sorted(missing)}"]
        if "parameters" in described:
            found[name] = list(differences(name, described["parameters"], own.get("parameters")))
        for member, parameters in described.get("members", {}).items():
            full = f"{name}.{member}"
            if member not in own["members"]:
                found[full] = [f"{full} is missing"]
            else:
                found[full] = list(differences(full, parameters, own["members"][member]))
    return {name: each for name, each in found.items() if each}


def test_every_name_of_the_original_is_here(interfaces: tuple[dict[str, Any], dict[str, Any]]) -> None:
    found = interface_differences(*interfaces)
    assert {name: each for name, each in found.items() if name not in ON_PURPOSE} == {}
    stale = {about for about in ON_PURPOSE if "." in about} - set(found)
    assert stale == set()


def test_the_comparison_sees_differences(interfaces: tuple[dict[str, Any], dict[str, Any]]) -> None:
    original, _ = interfaces
    changed = json.loads(json.dumps(original))
    del changed["new_data_object"]
    del changed["OssClient"]["members"]["list_objects"]
    reader = changed["OssCheckpoint"]["members"]["reader"]
    reader[0][0] = "uri"
    changed["OssClient"]["members"]["get_object"][2][2] = "5"
    changed["OssClient"]["members"]["put_object"].reverse()
    assert set(interface_differences(original, changed)) == {
        "new_data_object",
        "OssClient.list_objects",
        "OssCheckpoint.reader",
        "OssClient.get_object",
        "OssClient.put_object",
    }


def test_nothing_needs_a_change_to_itself(interfaces: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert interface_differences(interfaces[0], interfaces[0]) == {}


@pytest.fixture(scope="module")
def behaviours(
    emulator: Emulator, client: OssClient, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What each case returned or raised, of both."""
    folder = tmp_path_factory.mktemp("behaviour")
    config, wrong = folder / "config.json", folder / "wrong"
    config.write_text(json.dumps({"logLevel": 2, "logPath": f"{folder}/log", "auditPath": f"{folder}/audit"}))
    wrong.write_text(json.dumps({"AccessKeyId": "nobody", "AccessKeySecret": "nothing"}))
    programs: list[tuple[Any, ...]] = []
    # Names of one length, since results have them.
    bucket = f"original-{uuid.uuid4().hex[:16]}"
    for number, (package, endpoint) in enumerate(
        ((installed(), named_endpoint(emulator.endpoint)), (OURS, emulator.endpoint))
    ):
        own = f"{bucket}-{number}"
        client.create_bucket(own)
        for index in range(6):
            client.put(f"oss://{own}/data/{index}", bytes([65 + index]) * 10 * (index + 1))
        client.put(f"oss://{own}/empty/e", b"")
        client.put(f"oss://{own}/huge/h", bytes(HUGE))
        client.put(f"oss://{own}/manifest", b"data/3 three\ndata/1 one")
        connection = {"endpoint": endpoint, "config_path": str(config), "region": emulator.region}
        arguments = [json.dumps({**connection, "cred_path": path}) for path in (emulator.cred_path, str(wrong))]
        programs.append((package, own, *arguments, str(folder / str(number))))
    with ThreadPoolExecutor(len(programs)) as pool:
        # Most of the time they wait.
        list(pool.map(lambda given: run(given[0], BEHAVIOUR, *given[1:], seconds=270), programs))
    found = [json.loads(Path(result).read_text().replace(own, "BUCKET")) for _, own, *_, result in programs]
    return found[0], found[1]


def agree(theirs: list[Any], ours: list[Any]) -> bool:
    """Whether ours does the same: an error may be of a subclass, with a number where the original says none."""
    if theirs[0] != "raises" or ours[0] != "raises":
        return theirs == ours
    return theirs[1][0] in ours[1] and theirs[2] in {None, ours[2]}


CASES = [name.replace("_", " ") for name in re.findall(r"^@case\ndef (\w+)", BEHAVIOUR, flags=re.MULTILINE)]


@pytest.mark.parametrize("case", CASES)
def test_a_case_is_as_with_the_original(behaviours: tuple[dict[str, Any], dict[str, Any]], case: str) -> None:
    theirs, ours = (found[case] for found in behaviours)
    if case in ON_PURPOSE:
        assert ours[0] in {"returns", "raises"}
        assert not agree(theirs, ours), "it does not differ any more: take it out of the table"
    else:
        assert agree(theirs, ours), f"original: {theirs}\nhere: {ours}"


def test_the_table_is_about_cases_that_exist() -> None:
    assert {about for about in ON_PURPOSE if "." not in about} <= set(CASES)


def test_the_guide_has_the_table() -> None:
    _, _, section = GUIDE.read_text().partition("\n## What differs\n")
    rows = re.findall(r"^\| (.*) \| (.*) \| (.*) \| (.*) \|$", section.partition("\n## ")[0], flags=re.MULTILINE)
    assert [row for row in rows if set(row[0]) != {"-"}][1:] == [tuple(difference[:4]) for difference in DIFFERENCES]
