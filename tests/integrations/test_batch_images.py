"""Images that are fetched ahead, without any framework."""

import copy
import time

import pytest

from osstorchconnector import OssClient, OssNotFoundError
from osstorchconnector.integrations.batch_images import Images
from osstorchconnector.testing import Emulator


@pytest.fixture
def uris(client: OssClient, bucket: str) -> list[str]:
    names = [f"oss://{bucket}/{number}.jpg" for number in range(6)]
    for name in names:
        client.put(name, name.encode())
    return names


@pytest.fixture
def images(client: OssClient) -> Images:
    return Images(client)


def fetched(emulator: Emulator, bucket: str) -> int:
    return sum(request.bucket == bucket for request in emulator.requests(operation="GetObject"))


def test_all_are_fetched_when_the_first_is_read(
    emulator: Emulator, bucket: str, images: Images, uris: list[str]
) -> None:
    with images.ahead(uris):
        assert images.read(uris[0]) == uris[0].encode()
        deadline = time.monotonic() + 20
        while fetched(emulator, bucket) < len(uris):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert [images.read(uri) for uri in uris[1:]] == [uri.encode() for uri in uris[1:]]
    assert fetched(emulator, bucket) == len(uris)


def test_they_are_read_in_any_order_and_as_often_as_the_batch_has_them(
    emulator: Emulator, bucket: str, images: Images, uris: list[str]
) -> None:
    batch = [uris[0], uris[1], uris[0], uris[2]]
    with images.ahead(batch):
        for uri in reversed(batch):
            assert images.read(uri) == uri.encode()
        assert fetched(emulator, bucket) == 3
        # An image that the batch does not have, and one that it had.
        assert images.read(uris[5]) == uris[5].encode()
        assert images.read(uris[1]) == uris[1].encode()
    assert fetched(emulator, bucket) == 5


def test_a_missing_image_raises_where_it_is_read(bucket: str, images: Images, uris: list[str]) -> None:
    missing = f"oss://{bucket}/none.jpg"
    with images.ahead([uris[0], missing, uris[1]]):
        assert images.read(uris[1]) == uris[1].encode()
        with pytest.raises(OssNotFoundError, match=f'bucket="{bucket}", key="none.jpg"'):
            images.read(missing)
        assert images.read(uris[0]) == uris[0].encode()


def test_a_batch_is_for_its_own_images(client: OssClient, images: Images, uris: list[str]) -> None:
    other = Images(client)
    with images.ahead(uris[:1]):
        assert other.read(uris[0]) == uris[0].encode()
        assert images.read(uris[0]) == uris[0].encode()


def test_a_sample_that_is_copied_has_the_same_images(images: Images) -> None:
    assert copy.deepcopy({"images": images})["images"] is images


def test_no_images_need_no_request(emulator: Emulator, bucket: str, images: Images) -> None:
    with images.ahead([]):
        pass
    assert fetched(emulator, bucket) == 0
