import logging
import os
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssConfigError, OssCredentialsError
from osstorchconnector.credentials import (
    CredentialSource,
    EcsRoleCredentials,
    ExplicitCredentials,
    OidcRoleCredentials,
    RamRoleCredentials,
    UriCredentials,
)
from osstorchconnector.credentials.sts import sign, sts_endpoint
from tests.credentials.stand_in import Answer, Asked, StandIn, key_document, standing_in

SECRET = "a-secret-that-must-not-show"
TOKEN = "a-token-that-must-not-show"
ROLE = "/latest/meta-data/ram/security-credentials/"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osstorchconnector.credentials.request._PAUSE_SECONDS", 0.001)


def metadata(asked: Asked) -> Answer:
    if asked.path == "/latest/api/token":
        assert asked.method == "PUT"
        assert int(asked.headers["x-aliyun-ecs-metadata-token-ttl-seconds"]) > 0
        return 200, "metadata-token"
    if asked.headers.get("x-aliyun-ecs-metadata-token") != "metadata-token":
        return 401, "no token"
    return {ROLE: (200, "a-role"), f"{ROLE}a-role": (200, key_document("STS.ecs", SECRET, TOKEN))}.get(
        asked.path, (404, "nothing here")
    )


def without_tokens(asked: Asked) -> Answer:
    if asked.method == "PUT":
        return 404, ""
    return (200, "a-role") if asked.path == ROLE else (200, key_document("STS.ecs", SECRET, TOKEN))


def sts(asked: Asked) -> Answer:
    number = asked.form.get("RoleSessionName", "")
    return 200, {"RequestId": "1", "Credentials": key_document(f"STS.{number}", SECRET, TOKEN)}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("an-oidc-token\n")
    return path


def test_an_ecs_role_is_found_and_asked_with_a_token() -> None:
    with standing_in(metadata) as service:
        credentials = EcsRoleCredentials(endpoint=service.url)()
        assert service.paths() == ["PUT /latest/api/token", f"GET {ROLE}", f"GET {ROLE}a-role"]
    assert credentials[:3] == ("STS.ecs", SECRET, TOKEN)
    assert credentials.expiration == pytest.approx(time.time() + 3600, abs=5)


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_a_named_ecs_role_is_requested_directly(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "environment":
        monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA", "a-role")
    with standing_in(metadata) as service:
        EcsRoleCredentials("a-role" if way == "argument" else "", service.url)()
        assert service.paths() == ["PUT /latest/api/token", f"GET {ROLE}a-role"]


def test_a_metadata_service_without_tokens_is_used_unless_that_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(without_tokens) as service:
        assert EcsRoleCredentials(endpoint=service.url)().access_key_id == "STS.ecs"
        monkeypatch.setenv("ALIBABA_CLOUD_IMDSV1_DISABLED", "true")
        with pytest.raises(OssCredentialsError, match="/latest/api/token answered 404"):
            EcsRoleCredentials(endpoint=service.url)()


def test_an_instance_without_a_role_and_a_role_that_is_not_attached_are_reported() -> None:
    def bare(asked: Asked) -> Answer:
        return (200, "token") if asked.method == "PUT" else (404, "")

    with standing_in(bare) as service:
        with pytest.raises(OssCredentialsError, match="no RAM role is attached"):
            EcsRoleCredentials(endpoint=service.url)()
        with pytest.raises(OssCredentialsError, match="'other' is not attached"):
            EcsRoleCredentials("other", service.url)()


def test_a_machine_without_a_metadata_service_raises_quickly() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        source = EcsRoleCredentials(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(OssCredentialsError, match="this is not an ECS instance"):
            source()
        assert time.monotonic() - started < 5
        # A call right after it raises the same error, without another wait.
        started = time.monotonic()
        with pytest.raises(OssCredentialsError, match="this is not an ECS instance"):
            source()
        assert time.monotonic() - started < 0.5


def test_the_metadata_service_is_reached_past_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with standing_in(metadata) as service:
        assert EcsRoleCredentials(endpoint=service.url)().access_key_id == "STS.ecs"


def test_an_oidc_token_is_exchanged_and_read_anew_each_time(token_file: Path) -> None:
    with standing_in(sts) as service:
        source = OidcRoleCredentials(
            "acs:ram::1:role/r", "acs:ram::1:oidc-provider/p", str(token_file), "session", 900, "{}", service.url
        )
        assert source()[:3] == ("STS.session", SECRET, TOKEN)
        (asked,) = service.asked
        # The address has no secret, because proxies log it.
        assert (asked.method, asked.path) == ("POST", "/")
        form = asked.form
        assert form.pop("Timestamp").endswith("Z")
        assert form == {
            "Action": "AssumeRoleWithOIDC",
            "Version": "2015-04-01",
            "Format": "JSON",
            "RoleArn": "acs:ram::1:role/r",
            "OIDCProviderArn": "acs:ram::1:oidc-provider/p",
            "OIDCToken": "an-oidc-token",
            "RoleSessionName": "session",
            "DurationSeconds": "900",
            "Policy": "{}",
        }
        token_file.write_text("the-next-token")
        source(refused="STS.session")
        assert service.asked[1].form["OIDCToken"] == "the-next-token"


def test_an_oidc_role_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, token_file: Path) -> None:
    with standing_in(sts) as service:
        monkeypatch.setattr("osstorchconnector.credentials.sts.sts_endpoint", lambda: service.url)
        monkeypatch.setenv("ALIBABA_CLOUD_ROLE_ARN", "role")
        monkeypatch.setenv("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "provider")
        with pytest.raises(OssCredentialsError, match="ALIBABA_CLOUD_OIDC_TOKEN_FILE is not set"):
            OidcRoleCredentials.from_environment()
        monkeypatch.setenv("ALIBABA_CLOUD_OIDC_TOKEN_FILE", str(token_file))
        monkeypatch.setenv("ALIBABA_CLOUD_ROLE_SESSION_NAME", "pod")
        assert OidcRoleCredentials.from_environment()().access_key_id == "STS.pod"
        token_file.unlink()
        with pytest.raises(OssCredentialsError, match="token' cannot be read: No such file"):
            OidcRoleCredentials.from_environment()()


def test_a_role_is_assumed_with_a_signed_request() -> None:
    with standing_in(sts) as service:
        key = ExplicitCredentials("long-lived", "its-secret", "its-token")
        source = RamRoleCredentials(key, "role", "session", 1000, external_id="partner", endpoint=service.url)
        assert source().access_key_id == "STS.session"
        form = service.asked[0].form
    signature = form.pop("Signature")
    assert sign(form, "its-secret") == signature
    assert sign(form, "another-secret") != signature
    assert form["Action"] == "AssumeRole"
    assert (form["AccessKeyId"], form["SecurityToken"]) == ("long-lived", "its-token")
    assert (form["ExternalId"], form["DurationSeconds"]) == ("partner", "1000")
    assert "its-secret" not in str(form)


def test_the_signature_is_the_documented_one() -> None:
    # The example of the documentation of the RPC style.
    parameters = {
        "Timestamp": "2016-02-23T12:46:24Z",
        "Format": "XML",
        "AccessKeyId": "testid",
        "Action": "DescribeRegions",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf",
        "Version": "2014-05-26",
        "SignatureVersion": "1.0",
    }
    assert sign(parameters, "testsecret", "GET") == "OLeaidS1JvxuMvnyHOwuJ+uX5qY="


def test_the_sts_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sts_endpoint() == "https://sts.aliyuncs.com"
    assert sts_endpoint("cn-beijing") == "https://sts.cn-beijing.aliyuncs.com"
    assert sts_endpoint("cn-beijing", vpc=True) == "https://sts-vpc.cn-beijing.aliyuncs.com"
    monkeypatch.setenv("ALIBABA_CLOUD_STS_REGION", "cn-hangzhou")
    monkeypatch.setenv("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "true")
    assert sts_endpoint() == "https://sts-vpc.cn-hangzhou.aliyuncs.com"


def test_a_credentials_uri_is_asked() -> None:
    with standing_in(lambda _: (200, key_document("STS.uri", SECRET, TOKEN))) as service:
        source = UriCredentials(f"{service.url}/keys?for={SECRET}")
        assert source().access_key_id == "STS.uri"
        assert service.paths() == [f"GET /keys?for={SECRET}"]


def sources(url: str, token_file: Path) -> list[CredentialSource]:
    return [
        EcsRoleCredentials(endpoint=url),
        OidcRoleCredentials("role", "provider", str(token_file), endpoint=url),
        RamRoleCredentials(ExplicitCredentials("id", SECRET), "role", endpoint=url),
        UriCredentials(f"{url}/?for={SECRET}"),
    ]


@pytest.mark.parametrize(
    ("status", "content", "complaint"),
    [
        (403, {"Code": "NoPermission", "RequestId": "R1", "Message": SECRET}, r"answered 403 \(NoPermission, R1\)"),
        (500, SECRET, "answered 500"),
        (302, "http://127.0.0.1:9/", "answered 302"),
        (200, SECRET, "(is not JSON|not attached|holds no access key)"),
        (200, [SECRET], "holds no access key"),
        (200, "x" * 70_000, "more than 65536 bytes"),
        (0, "", "(did not answer|cannot be reached)"),
    ],
)
def test_a_wrong_answer_of_a_service_is_reported_without_a_secret(
    token_file: Path, status: int, content: Any, complaint: str
) -> None:
    token_file.write_text(SECRET)

    def answer(asked: Asked) -> Answer:
        if asked.path in {"/latest/api/token", ROLE} and status != 0:
            return 200, "token-or-role"
        return status, content

    with standing_in(answer) as service:
        for source in sources(service.url, token_file):
            with pytest.raises(OssCredentialsError, match=complaint) as caught:
                source()
            assert SECRET not in "".join(traceback.format_exception(caught.value))
            assert SECRET not in repr(source)
        if status == 500:
            # The metadata service gets two attempts after its token and role, each other service three.
            assert len(service.asked) == 4 + 3 * 3


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        ({"Code": "Failed"}, "code is 'Failed'"),
        ({"AccessKeySecret": None}, "has no AccessKeySecret"),
        ({"SecurityToken": ""}, "has no SecurityToken"),
        ({"Expiration": "soon"}, "Expiration is not a time"),
    ],
)
def test_an_answer_without_a_key_is_reported_by_field(spoil: dict[str, Any], complaint: str) -> None:
    with standing_in(lambda _: (200, {**key_document("id", SECRET, TOKEN), **spoil})) as service:
        with pytest.raises(OssCredentialsError, match=complaint) as caught:
            UriCredentials(service.url)()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_failure_that_passes_is_tried_again(token_file: Path) -> None:
    failures = iter([(503, ""), (0, "")])

    def answer(asked: Asked) -> Answer:
        return next(failures, None) or sts(asked)

    with standing_in(answer) as service:
        OidcRoleCredentials("role", "provider", str(token_file), endpoint=service.url)()
        assert len(service.asked) == 3


def test_an_invalid_address_is_reported() -> None:
    with pytest.raises(OssCredentialsError, match="'file:///etc/shadow' is not an HTTP address"):
        UriCredentials("file:///etc/shadow")()
    with pytest.raises(OssCredentialsError) as caught:
        UriCredentials(f"http://user:{SECRET}@127.0.0.1:9/?{SECRET}")()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(("", "p", "t"), "role_arn"), (("r", "", "t"), "oidc_provider_arn"), (("r", "p", ""), "oidc_token_file")],
)
def test_a_missing_argument_of_a_role_is_reported(arguments: tuple[str, str, str], complaint: str) -> None:
    with pytest.raises(OssConfigError, match=f"{complaint} is missing"):
        OidcRoleCredentials(*arguments)
    with pytest.raises(OssConfigError, match="must be at least 900"):
        OidcRoleCredentials("r", "p", "t", duration_seconds=899)


class Numbered:
    """A credentials URI that answers with another key each time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.broken = False

    def __call__(self, _asked: Asked) -> Answer:
        if self.broken:
            return 403, ""
        return 200, key_document(f"STS.{len(self.service.asked)}", SECRET, TOKEN, self.seconds)

    service: StandIn


@pytest.fixture
def numbered() -> Iterator[Numbered]:
    answers = Numbered(3600)
    with standing_in(answers) as service:
        answers.service = service
        yield answers


def test_a_key_is_kept_until_some_minutes_before_it_expires(numbered: Numbered) -> None:
    source = UriCredentials(numbered.service.url)
    numbered.seconds = 300
    assert [source().access_key_id for _ in range(3)] == ["STS.1", "STS.2", "STS.3"]
    numbered.seconds = 600
    assert [source().access_key_id for _ in range(3)] == ["STS.4"] * 3


def test_a_refused_key_is_replaced_and_only_that(numbered: Numbered) -> None:
    source = UriCredentials(numbered.service.url)
    assert source().access_key_id == "STS.1"
    assert source(refused="STS.1").access_key_id == "STS.2"
    assert source(refused="STS.1").access_key_id == "STS.2"


def test_a_key_lasts_while_the_service_fails(
    numbered: Numbered, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = UriCredentials(numbered.service.url)
    numbered.seconds = 300
    held = source()
    numbered.broken = True
    with caplog.at_level(logging.WARNING):
        assert source() == held
    assert "the access key that was fetched earlier is still used" in caplog.text
    with pytest.raises(OssCredentialsError, match="answered 403"):
        source(refused="STS.1")
    later = time.time() + 301
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(OssCredentialsError, match="answered 403"):
        source()


def test_many_threads_ask_once(numbered: Numbered) -> None:
    source = UriCredentials(numbered.service.url)
    together = threading.Barrier(16)

    def ask(_: int) -> str:
        together.wait()
        return source().access_key_id

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, range(16))) == {"STS.1"}
    assert len(numbered.service.asked) == 1


def test_a_fork_while_a_key_is_fetched_leaves_no_lock_behind() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(_: Asked) -> Answer:
        asked.set()
        go_on.wait()
        return 200, key_document("STS.id", SECRET, TOKEN)

    with standing_in(answer) as service:
        source = UriCredentials(service.url)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(source)
            assert asked.wait(10)
            child = os.fork()
            if child == 0:
                os._exit(0 if source().access_key_id == "STS.id" else 1)
            go_on.set()
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert waiting.result().access_key_id == "STS.id"


def test_no_fetched_key_is_in_a_pickle(token_file: Path) -> None:
    def answer(asked: Asked) -> Answer:
        return sts(asked) if asked.method == "POST" else metadata(asked)

    with standing_in(answer) as service:
        for source in (
            EcsRoleCredentials("a-role", service.url),
            OidcRoleCredentials("role", "provider", str(token_file), "session", endpoint=service.url),
        ):
            source_id = source().access_key_id
            pickled = pickle.dumps(source)
            assert SECRET.encode() not in pickled
            assert TOKEN.encode() not in pickled
            assert pickle.loads(pickled)().access_key_id == source_id
        with pytest.raises(OssCredentialsError, match="cannot be pickled"):
            pickle.dumps(RamRoleCredentials(ExplicitCredentials("id", SECRET), "role"))
