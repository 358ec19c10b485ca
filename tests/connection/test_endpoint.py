import re

import pytest

from osstorchconnector import OssConfig, OssConfigError
from osstorchconnector.connection.config import resolve
from osstorchconnector.connection.endpoint import check_region, normalize_endpoint

ANONYMOUS = OssConfig(anonymous=True)
SIGNED = OssConfig(access_key_id="id", access_key_secret="secret")
UNKNOWN = "https://data.example.com"


@pytest.mark.parametrize(
    ("given", "normalized"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "https://oss-cn-hangzhou.aliyuncs.com"),
        ("http://oss-cn-hangzhou.aliyuncs.com", "http://oss-cn-hangzhou.aliyuncs.com"),
        ("HTTPS://oss-cn-hangzhou.aliyuncs.com/", "https://oss-cn-hangzhou.aliyuncs.com"),
        ("data.example.com:8443", "https://data.example.com:8443"),
        ("localhost:9400", "http://localhost:9400"),
        ("127.0.0.1:9400", "http://127.0.0.1:9400"),
        ("[::1]:9400", "http://[::1]:9400"),
        ("https://127.0.0.1", "https://127.0.0.1"),
    ],
)
def test_an_endpoint_without_a_scheme_gets_its_default(given: str, normalized: str) -> None:
    assert normalize_endpoint(given) == normalized


@pytest.mark.parametrize(
    ("endpoint", "complaint"),
    [
        ("", "endpoint must not be empty"),
        (None, "endpoint must be a string, not NoneType"),
        ("ftp://host", "has scheme 'ftp': allowed are http and https"),
        ("http://", "has no valid host name"),
        ("http://host/path", "without a path"),
        ("http://host?query", "without a path"),
        ("http://a host", "has no valid host name"),
        ("http://host:notaport", "cannot be read"),
        ("http://host:99999", "cannot be read"),
        ("http://host:0", "has port 0"),
        ("http://[::1", "cannot be read"),
    ],
)
def test_a_malformed_endpoint_is_refused(endpoint: str, complaint: str) -> None:
    with pytest.raises(OssConfigError, match="endpoint") as caught:
        normalize_endpoint(endpoint)
    assert complaint in str(caught.value)


def test_a_password_in_an_endpoint_is_not_repeated() -> None:
    with pytest.raises(OssConfigError, match="user name or password") as caught:
        normalize_endpoint("http://id:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_the_region_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_REGION", "cn-shanghai")
    endpoint = "oss-cn-hangzhou.aliyuncs.com"
    assert resolve(endpoint, region="cn-beijing", config=SIGNED).region == "cn-beijing"
    assert resolve(endpoint, config=SIGNED).region == "cn-shanghai"
    monkeypatch.delenv("OSS_REGION")
    assert resolve(endpoint, config=SIGNED).region == "cn-hangzhou"


@pytest.mark.parametrize(
    ("endpoint", "region"),
    [
        ("oss-cn-beijing-internal.aliyuncs.com", "cn-beijing"),
        ("cn-beijing.oss.aliyuncs.com", "cn-beijing"),
        ("oss-cn-hzfinance.aliyuncs.com", "cn-hangzhou-finance"),
    ],
)
def test_the_region_is_derived_from_the_endpoint(endpoint: str, region: str) -> None:
    assert resolve(endpoint, config=SIGNED).region == region


def test_a_region_that_cannot_be_derived_raises() -> None:
    with pytest.raises(OssConfigError, match="give the argument region"):
        resolve(UNKNOWN, config=SIGNED)
    assert resolve(UNKNOWN, config=ANONYMOUS).region == ""
    v1 = OssConfig(access_key_id="id", access_key_secret="secret", signature_version="v1")
    assert resolve(UNKNOWN, config=v1).region == ""


@pytest.mark.parametrize("region", ["cn_hangzhou", "CN-HANGZHOU", "cn-hangzhou ", "-", "cn-hangzhou\n", "a/b"])
def test_a_malformed_region_is_refused(monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    with pytest.raises(OssConfigError, match="region must be a region ID"):
        resolve(UNKNOWN, region=region, config=SIGNED)
    monkeypatch.setenv("OSS_REGION", region)
    with pytest.raises(OssConfigError, match="OSS_REGION in the environment must be a region ID"):
        resolve(UNKNOWN, config=SIGNED)


@pytest.mark.parametrize("region", ["CN-Hangzhou", "cn_hangzhou", "cn hangzhou", "china/hangzhou"])
def test_a_region_that_was_misspelt_is_repeated(region: str) -> None:
    with pytest.raises(OssConfigError, match=re.escape(repr(region))):
        check_region(region, "region")


def test_a_bucket_location_is_distinguished_from_a_region() -> None:
    with pytest.raises(OssConfigError, match="the region ID is 'cn-hangzhou'"):
        resolve(UNKNOWN, region="oss-cn-hangzhou", config=SIGNED)
