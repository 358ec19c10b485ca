"""The page about the configuration says of every setting what the code does."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssConfig
from osstorchconnector.connection import config_file
from osstorchconnector.connection.config import MIB
from osstorchconnector.dataset.options import DatasetOptions, MapOptions, Options
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "guides" / "configuration.md"
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def rows(section: str) -> dict[str, list[str]]:
    """Return the cells of each row by the code in its first one."""
    found = {}
    for line in SECTIONS[section].splitlines():
        if line.startswith("| `"):
            first, *others = (cell.strip() for cell in line[1:-1].split("|"))
            found[first.strip("`")] = others
    return found


def shown(value: object) -> str:
    """Return a default as the page shows it."""
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, bool | None):
        return str(value)
    if isinstance(value, int) and value >= MIB:
        return f"{value // MIB} MiB"
    return f"{value:g}"


FIELDS = {field.name: field.default for field in dataclasses.fields(OssConfig)}


def test_every_field_is_listed_with_its_default() -> None:
    assert {name: cells[0] for name, cells in rows("Fields of `OssConfig`").items()} == {
        name: shown(default) for name, default in FIELDS.items()
    }


def test_numbers_have_their_unit() -> None:
    """Sizes and times have a unit, and nothing that is no number."""
    for name, (_, unit, effect) in rows("Fields of `OssConfig`").items():
        assert effect, name
        default = FIELDS[name]
        number = name == "io_threads" or (isinstance(default, int | float) and not isinstance(default, bool))
        assert bool(unit) == number, name
        assert (unit == "bytes") == name.endswith(("_bytes", "_size", "_window")), name
        assert (unit == "seconds") == name.endswith(("_timeout", "_seconds")), name


def json_keys() -> dict[str, config_file._Key]:
    found = dict(config_file._TOP)
    for section, keys in config_file._SECTIONS.items():
        # The keys that may be anywhere are listed once, without a section.
        found |= {f"{section}.{name}": key for name, key in keys.items() if name not in config_file._ANYWHERE}
    return found


TYPES: dict[tuple[type, ...], str] = {(int,): "number", (int, float): "number", (str,): "string", (bool,): "boolean"}


def test_every_key_of_the_file_is_listed_with_its_type_and_field() -> None:
    listed = {name: (cells[0], cells[1].strip("`") or None) for name, cells in rows("The JSON file").items()}
    assert listed == {name: (TYPES.get(key.types, "any"), key.field) for name, key in json_keys().items()}


@pytest.mark.parametrize("name", [name for name, key in json_keys().items() if key.field is not None])
def test_a_default_of_the_file_is_that_of_its_field(name: str, tmp_path: Path) -> None:
    default = rows("The JSON file")[name][2]
    value: Any = {"none": ""}.get(default, default)
    document: Any = json.loads(default) if value else ""
    for part in reversed(name.split(".")):
        document = {part: document}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    (setting,) = config_file.read_config_file(str(path))
    assert setting.value == FIELDS[setting.field]


def test_the_file_of_the_page_is_accepted(tmp_path: Path) -> None:
    (document,) = [block.text for block in blocks(PAGE) if block.language == "json"]
    path = tmp_path / "config.json"
    path.write_text(document)
    assert len(config_file.read_config_file(str(path))) == 5


def test_every_option_of_datasets_is_listed_with_its_default() -> None:
    options = Options()
    listed = {name: cells[0] for name, cells in rows("Options of datasets").items()}
    assert list(listed)[-3:] == list(MapOptions.__annotations__)
    assert set(listed) == set(DatasetOptions.__required_keys__ | DatasetOptions.__optional_keys__)
    policy = {"on_error": options.policy.missing, "error_limit": options.policy.error_limit}
    assert listed == {name: shown(policy[name] if name in policy else getattr(options, name)) for name in listed}


def test_every_variable_that_the_package_reads_is_on_a_page() -> None:
    text = PAGE.read_text() + (PAGE.parent / "credentials.md").read_text()
    sources = [*(ROOT / "python").rglob("*.py"), *(ROOT / "crates").glob("*/src/**/*.rs")]
    code = "\n".join(path.read_text() for path in sources)
    read = set(re.findall(r'"((?:OSS|ALIBABA_CLOUD|SSL_CERT)_[A-Z0-9_]+|TMPDIR)"', code))
    assert read
    assert {name for name in read if f"`{name}" not in text} == set()
