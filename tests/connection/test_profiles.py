import json
import stat
from pathlib import Path

import pytest

from osstorchconnector import OssConfigError
from osstorchconnector.connection.profiles import (
    Profile,
    profiles_path,
    read_profile,
    read_profiles,
    write_profiles,
)
from osstorchconnector.credentials import (
    CliProfileCredentials,
    EcsRoleCredentials,
    EnvironmentCredentials,
    FileCredentials,
    IniProfileCredentials,
    UriCredentials,
)
from osstorchconnector.fsspec import FsspecFileSystem
from osstorchconnector.testing import Emulator


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def write(text: str) -> None:
    profiles_path().parent.mkdir(parents=True, exist_ok=True)
    profiles_path().write_text(text)
    profiles_path().chmod(0o600)


def test_what_is_written_is_read_by_this_user_alone(tmp_path: Path) -> None:
    assert read_profiles() == {}
    profiles = {"a": Profile("oss-cn-hangzhou.aliyuncs.com", "", "aliyun:x"), "é": Profile("", "cn-beijing", "ecs")}
    write_profiles(profiles)
    assert read_profiles() == profiles
    assert profiles_path() == tmp_path / "config" / "osstorchconnector" / "profiles.json"
    assert stat.S_IMODE(profiles_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(profiles_path().parent.stat().st_mode) == 0o700
    assert [path.name for path in profiles_path().parent.iterdir()] == ["profiles.json"]


def test_a_relative_configuration_directory_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert profiles_path() == Path.home() / ".config" / "osstorchconnector" / "profiles.json"


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("environment", EnvironmentCredentials),
        ("file:/a", FileCredentials),
        ("aliyun:a", CliProfileCredentials),
        ("ini:a", IniProfileCredentials),
        ("ecs", EcsRoleCredentials),
        ("ecs:role", EcsRoleCredentials),
        ("uri:http://127.0.0.1:1/key", UriCredentials),
        ("chain", type(None)),
        ("anonymous", type(None)),
    ],
)
def test_places(place: str, kind: type) -> None:
    assert type(Profile(credentials=place).source()) is kind
    assert Profile(credentials=place).anonymous is (place == "anonymous")


# Made up, and in the form of a real one.
SECRET = "LTAI5tMadeUpKeyId:MadeUpSecretOfThirtyCharacters"


@pytest.mark.parametrize(
    "place",
    [
        SECRET,
        f"environment:{SECRET}",
        f"chain:{SECRET}",
        f"uri:http://{SECRET}@host/key",
        f"uri:http://host/key?token={SECRET}",
        "file",
        "file:",
        "uri:ftp://host",
        "",
        "Chain",
    ],
)
def test_what_is_no_place_is_refused_and_not_repeated(place: str) -> None:
    with pytest.raises(OssConfigError, match="credentials") as caught:
        Profile(credentials=place)
    assert "MadeUp" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "must hold a JSON object"),
        ('{"profiles": {"a": 1}}', "profile 'a' must be an object"),
        ('{"profiles": {"a": {"endpoint": 1}}}', "endpoint of profile 'a' must be a string"),
        ('{"profiles": {"a": {"access_key_secret": "MadeUp"}}}', "never holds a secret"),
        ('{"profiles": {"a": {"region": "oss-cn-hangzhou"}}}', "profile 'a': region is a bucket location"),
        ('{"profiles": {"a": {"region": "LTAI5tMadeUpMadeUpMadeUp"}}}', "may be a secret and are not repeated"),
        ('{"profiles": {"a": {"region": "9qMadeUpMadeUpMadeUpMadeUp+/="}}}', "a region ID such as 'cn-hangzhou', not"),
        ('{"profiles": {"a": {"endpoint": "MadeUpMadeUpMadeUp+/=="}}}', "may be a secret and are not repeated"),
        ('{"profiles": {"a": {"endpoint": "http://u:MadeUp@h"}}}', "profile 'a': endpoint must not contain"),
        ('{"profiles": {}}' + " " * (1 << 20), "must hold"),
    ],
)
def test_a_malformed_file_is_named(text: str, complaint: str) -> None:
    write(text)
    with pytest.raises(OssConfigError, match=complaint) as caught:
        read_profiles()
    assert str(profiles_path()) in str(caught.value)
    assert "MadeUp" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_change_is_refused(mode: int) -> None:
    write_profiles({"a": Profile()})
    profiles_path().chmod(mode)
    with pytest.raises(OssConfigError, match="chmod 600"):
        read_profiles()


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(OssConfigError, match="has no profile 'x': there is none; `osst configure` makes one"):
        read_profile("x")
    write_profiles({"a": Profile(), "b": Profile()})
    with pytest.raises(OssConfigError, match="has no profile 'x': there are 'a', 'b'"):
        read_profile("x")


def test_fsspec_reads_the_same_file(emulator: Emulator, bucket: str) -> None:
    place = f"file:{emulator.cred_path}"
    write_profiles({"there": Profile(emulator.endpoint, emulator.region, place)})
    system = FsspecFileSystem(profile="there")
    system.pipe_file(f"{bucket}/a", b"content")
    assert system.cat_file(f"{bucket}/a") == b"content"
    assert json.loads(profiles_path().read_text())["profiles"]["there"]["credentials"] == place
    # An option wins over the profile.
    other = FsspecFileSystem(profile="there", endpoint="http://127.0.0.1:9")
    assert other.client.endpoint == "http://127.0.0.1:9"


def test_an_anonymous_profile_signs_nothing() -> None:
    write_profiles({"open": Profile("http://127.0.0.1:9", "cn-hangzhou", "anonymous")})
    assert FsspecFileSystem(profile="open").client.config.anonymous
