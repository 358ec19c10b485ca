"""What the tests of the doctor share: a run of it, and the lines that it found."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator


@dataclass
class Examined:
    """A report, by name of the line."""

    status: int
    document: dict[str, Any]

    def __getitem__(self, name: str) -> dict[str, Any]:
        (found,) = [one for one in self.document["findings"] if one["name"] == name]
        return dict(found)

    def failed(self) -> list[str]:
        return [one["name"] for one in self.document["findings"] if one["state"] == "failure"]

    def names(self) -> list[str]:
        return [one["name"] for one in self.document["findings"]]


Examine = Callable[..., Examined]


@pytest.fixture
def examine(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Run the doctor against the emulator, with other options if they are given."""

    def examine(*arguments: str, **options: str) -> Examined:
        given = {
            "endpoint": emulator.endpoint,
            "region": emulator.region,
            "cred_path": emulator.cred_path,
            **options,
        }
        connection = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value]
        status = main(["doctor", "--json", *arguments, *connection])
        return Examined(status, json.loads(capsys.readouterr().out))

    return examine
