"""Secrets are not shown anywhere: the check itself, and the failures that are most likely to show one."""

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssConfigError,
    OssCredentialsError,
    OssError,
    OssIterableDataset,
    OssMapDataset,
    OssPermissionError,
)
from osstorchconnector.testing import Emulator
from tests.border.programs import listing_of, stream_of
from tests.faults.evidence import Evidence
from tests.faults.objects import ObjectServer, error_answer, uri
from tests.faults.readers import (
    ACCESS_KEY_ID,
    ACCESS_KEY_SECRET,
    READERS,
    SECURITY_TOKEN,
    Reader,
    connect,
    settings,
    with_each,
)
from tests.faults.server import Answer, Exchange

LEAKY = [
    lambda found, text: found.lines.append(text),
    lambda found, text: found.errors.append(ValueError(text)),
    lambda found, text: found.errors.append(OssError("failed", key=text)),
    lambda found, text: found.objects.append([text]),
    lambda found, text: found.handle(logging.makeLogRecord({"msg": "%s", "args": (text,)})),
]


@pytest.mark.parametrize("leak", LEAKY)
@pytest.mark.parametrize("secret", [ACCESS_KEY_SECRET, SECURITY_TOKEN])
def test_the_check_finds_a_secret_wherever_it_shows(evidence: Evidence, leak: Any, secret: str) -> None:
    found = Evidence()
    leak(found, f"something {ACCESS_KEY_ID}")
    assert found.leaks([secret]) == []
    leak(found, f"something {secret} something")
    assert found.leaks([secret])
    # The test made this error on purpose.
    evidence.errors.clear()


def test_the_check_finds_a_secret_in_a_cause_and_in_a_note(evidence: Evidence) -> None:
    for spoil in (
        lambda error: error.add_note(ACCESS_KEY_SECRET),
        lambda error: setattr(error, "__cause__", ValueError(ACCESS_KEY_SECRET)),
    ):
        found = Evidence()
        error = OssError("failed")
        found.errors.append(error)
        assert found.leaks([ACCESS_KEY_SECRET]) == []
        spoil(error)
        assert found.leaks([ACCESS_KEY_SECRET])
    # The test made these errors on purpose.
    evidence.errors.clear()


def test_public_objects_do_not_show_it(evidence: Evidence) -> None:
    with ObjectServer({"a": b"content", "b": b"content"}) as server:
        connection = connect(server)
        client = OssClient(**connection)
        writer = client.writer(uri("written"))
        writer.write(b"content")
        stream = stream_of(client._native_client, "")
        table = listing_of(client._native_client, "")
        datasets = [kind.from_prefix(uri(""), **connection) for kind in (OssIterableDataset, OssMapDataset)]
        shown = [
            connection["config"],
            client,
            client.config,
            client.head(uri("a")),
            client.open(uri("a")),
            client.list(uri("")),
            next(client.list(uri(""))),
            client._resolved,
            client._resolved.credentials,
            client._native_client,
            writer,
            stream,
            next(stream),
            table,
            table[0],
            *datasets,
            *(iter(dataset) for dataset in datasets),
        ]
        evidence.objects.extend(shown)
        assert repr(connection["config"]).count("***") == 3
        assert evidence.leaks([ACCESS_KEY_SECRET, SECURITY_TOKEN]) == []
        # The ID of the access key is no secret, and shows that the evidence is complete.
        assert all(repr(one) in list(evidence.texts()) for one in shown)
        writer.abort()


def test_failures_leave_no_secret_in_log_file_error_or_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], evidence: Evidence
) -> None:
    def spoiled(exchange: Exchange, answer: Answer) -> None:
        # No two of these in a row succeed, for any request.
        match exchange.number % 3:
            case 0:
                exchange.send(b"no HTTP\r\n\r\n")
            case 1:
                exchange.reply(answer, upto=len(answer.body) // 2)
            case 2:
                exchange.reply(error_answer(exchange.request, 503, "SlowDown", "Please reduce your request rate."))
        exchange.hang_up()

    log = tmp_path / "connector.log"
    handlers = list(logging.getLogger("osstorchconnector").handlers)
    texts = []
    with ObjectServer(dict.fromkeys("abc", b"content"), spoiled, where=lambda _: True) as server:
        for reader in READERS:
            for attempt in range(3):
                with pytest.raises(OssError) as caught:
                    reader(connect(server, log_path=str(log), log_level="debug", max_attempts=1 + attempt % 2), ["a"])
                texts += traceback.format_exception(caught.value)
    for handler in logging.getLogger("osstorchconnector").handlers[len(handlers) :]:
        logging.getLogger("osstorchconnector").removeHandler(handler)
        handler.close()
    texts += [log.read_text(), *capfd.readouterr()]
    assert "retrying" in log.read_text()
    assert any("retrying" in line for line in evidence.lines)
    assert len(evidence.errors) >= len(READERS) * 3
    seen = Evidence()
    seen.lines += texts
    assert seen.leaks([ACCESS_KEY_SECRET, SECURITY_TOKEN]) == []


def test_the_request_in_a_servers_answer_is_not_shown() -> None:
    def refuse(exchange: Exchange, _: Answer) -> None:
        # OSS explains a wrong signature with the canonical request, which contains the token.
        assert exchange.request.headers["x-oss-security-token"] == SECURITY_TOKEN
        headers = "".join(f"{name}:{value}\n" for name, value in exchange.request.headers.items())
        more = f"<CanonicalRequest>{headers}</CanonicalRequest><SecurityToken>{SECURITY_TOKEN}</SecurityToken>"
        message = "The request signature we calculated does not match."
        exchange.reply(error_answer(exchange.request, 403, "SignatureDoesNotMatch", message, more))

    with ObjectServer({"a": b""}, refuse, where=lambda _: True) as server:
        for reader in READERS:
            with pytest.raises(OssPermissionError) as caught:
                reader(connect(server), ["a"])
            assert caught.value.code == "SignatureDoesNotMatch"


def test_a_providers_failure_is_reported_without_its_words(evidence: Evidence) -> None:
    class Provider:
        def get_credentials(self) -> OssConfig:
            raise ValueError(f"cannot use {ACCESS_KEY_SECRET}")

    with ObjectServer({"a": b"content"}) as server:
        client = OssClient(server.endpoint, cred_provider=Provider(), region="cn-hangzhou")
        with pytest.raises(OssCredentialsError, match="failed with ValueError") as caught:
            client.get(uri("a"))
        assert server.count() == 0
    # The provider's own error is the cause of an error that only the native core gets.
    evidence.errors[:] = [caught.value]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', '{"AccessKeyId": "id"}', '{"AccessKeyId": 1}'])
def test_a_malformed_credential_file_is_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(text + ACCESS_KEY_SECRET if text == "{" else text)
    with pytest.raises(OssCredentialsError) as caught:
        OssClient("oss-cn-hangzhou.aliyuncs.com", cred_path=str(path))
    assert str(path) in str(caught.value)


def test_a_credential_file_given_as_configuration_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"AccessKeyId": ACCESS_KEY_ID, "AccessKeySecret": ACCESS_KEY_SECRET}))
    with pytest.warns(UserWarning, match="unknown key AccessKey") as warned:
        OssClient("oss-cn-hangzhou.aliyuncs.com", config_path=str(path), config=settings())
    assert not any(ACCESS_KEY_SECRET in str(warning.message) for warning in warned)


@pytest.mark.parametrize("argument", ["cred_path", "config_path"])
def test_a_files_content_given_as_its_path_is_not_quoted(argument: str) -> None:
    content = json.dumps({"AccessKeyId": ACCESS_KEY_ID, "AccessKeySecret": ACCESS_KEY_SECRET})
    for text in (content, f"\n  {content}"):
        with pytest.raises(OssConfigError, match=f"{argument} must be the path of a JSON file"):
            OssClient("oss-cn-hangzhou.aliyuncs.com", **{argument: text})  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["v1", "v4"])
@with_each(READERS)
def test_a_wrong_secret_is_not_shown(reader: Reader, emulator: Emulator, version: str) -> None:
    config = settings(access_key_id=emulator.access_key_id, security_token=None, signature_version=version)
    # Of a bucket that exists: a missing one would be reported first.
    emulator.create_bucket("scripted-bucket")
    with pytest.raises(OssPermissionError) as caught:
        reader({"endpoint": emulator.endpoint, "region": emulator.region, "config": config}, ["a"])
    assert caught.value.code == "SignatureDoesNotMatch"
    assert caught.value.request_id


def test_wrong_types_of_secrets_are_not_shown() -> None:
    wrong: Any
    for wrong in (ACCESS_KEY_SECRET.encode(), [ACCESS_KEY_SECRET]):
        with pytest.raises(OssConfigError, match="access_key_secret"):
            OssConfig(access_key_id="id", access_key_secret=wrong)
