"""COCO datasets in OSS for MMDetection, under the names of the original connector.

::

    from osstorchconnector import OSSDetDataset, OSSLoadImageFromFile, get_oss_ann_path

The import registers both classes in MMDetection, so a configuration names them: ``type="OSSDetDataset"``.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

from osstorchconnector._lazy import needs_torch
from osstorchconnector._tested_versions import warn_if_untested
from osstorchconnector.connection.client import OssClient
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError, OssError, OssFormatError, OssNotFoundError
from osstorchconnector.integrations.annotations import copy_annotations, get_oss_ann_path
from osstorchconnector.integrations.batch_images import Images

with needs_torch(__name__, __name__):
    import osstorchconnector.integrations.mmengine  # noqa: F401 - it registers the backend that joins paths

try:
    import mmcv
    from mmcv.transforms import LoadImageFromFile
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS, TRANSFORMS
except ModuleNotFoundError as error:
    if error.name not in {"mmcv", "mmdet"}:
        raise
    raise ModuleNotFoundError(
        "MMDetection is not installed: pip install mmdet 'mmcv>=2.0,<2.2'", name=error.name
    ) from None

__all__ = ["OSSDetDataset", "OSSLoadImageFromFile", "get_oss_ann_path"]

_logger: Final = logging.getLogger(__name__)

# The oldest and the newest release that the tests were run with.
_TESTED: Final = ((3, 3), (3, 3))
# The entry of a sample that reads its image; the name is the original's.
_SOURCE: Final = "oss_dataset"


@DATASETS.register_module()  # type: ignore[untyped-decorator, unused-ignore] # without MMDetection it has no type
@guards_methods
class OSSDetDataset(CocoDataset):  # type: ignore[misc, unused-ignore] # as above
    """A ``CocoDataset`` whose annotations and images are objects.

    The annotations are copied to a local file at first; :func:`get_oss_ann_path` names it. Pair it with
    :class:`OSSLoadImageFromFile` in the pipeline. The images of a batch are fetched together.
    """

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        oss_endpoint: str,
        oss_cred_path: str = "",
        oss_config_path: str = "",
        oss_cred_provider: object = None,
        oss_region: str = "",
        ann_cache_dir: str = "/tmp",  # noqa: S108 - the original's default; what is made there is private
        **kwargs: Any,  # noqa: ANN401 - those of CocoDataset
    ) -> None:
        """Read the annotations, and ask for the first image.

        Args:
            data_root: The directory of the dataset, ``oss://bucket/coco``.
            ann_file: The annotation file below it.
            oss_endpoint: As for :class:`osstorchconnector.OssClient`, and so are the next arguments.
            oss_cred_path: See there.
            oss_config_path: See there.
            oss_cred_provider: See there.
            oss_region: See there.
            ann_cache_dir: See :func:`get_oss_ann_path`.
            **kwargs: The other arguments of ``CocoDataset``, such as ``data_prefix``, ``pipeline`` and ``filter_cfg``.

        Raises:
            OssConfigError: An argument is wrong, or the annotations leave no image.
            OssNotFoundError: The annotations, or the first image that they name, do not exist.
            OssFormatError: The annotations are no COCO file, or one that was cut short.
        """
        warn_if_untested("mmdet", *_TESTED)
        bucket, key, path = get_oss_ann_path(data_root, ann_file, ann_cache_dir)
        client = OssClient(
            oss_endpoint, oss_cred_path, oss_config_path, cred_provider=oss_cred_provider, region=oss_region
        )
        self._images = Images(client)
        self._annotations = f"oss://{bucket}/{key}"
        copy_annotations(client, bucket, key, path)
        super().__init__(ann_file=path, data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the annotations.

        Raises:
            OssFormatError: They are no COCO file.
        """
        try:
            found: list[dict[str, Any]] = super().load_data_list()
        except OssError:
            raise
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise OssFormatError(f"{self._annotations} is no whole COCO file: {reason}") from error
        self._check_classes()
        return found

    def full_init(self) -> None:
        """Read the annotations, and ask for the first image.

        Raises:
            OssConfigError: The annotations leave no image.
            OssNotFoundError: There is no object for the first image.
        """
        if self._fully_initialized:
            return
        super().full_init()
        uri = self.get_data_info(0)["img_path"]
        if not uri.startswith("oss://"):
            return
        try:
            self._images.client.head(uri)
        except OssNotFoundError as error:
            error.add_note(f"{self._annotations} names it: is data_prefix={self.data_prefix} right?")
            raise

    def filter_data(self) -> list[dict[str, Any]]:
        """Return the images that ``filter_cfg`` leaves.

        Raises:
            OssConfigError: There are none.
        """
        named = len(self.data_list)
        left: list[dict[str, Any]] = super().filter_data()
        if not left:
            raise OssConfigError(
                f"{self._annotations} names {named} images, of which filter_cfg={self.filter_cfg} and "
                f"classes={self.metainfo.get('classes')} leave none"
            )
        return left

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the annotations of a sample, with what reads its image."""
        found: dict[str, Any] = super().get_data_info(idx)
        found[_SOURCE] = self._images
        return found

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the samples of a batch, whose images are fetched together. A ``DataLoader`` calls this."""
        uris = [self.get_data_info(index)["img_path"] for index in indices]
        with self._images.ahead(uri for uri in uris if uri.startswith("oss://")):
            return [self[index] for index in indices]

    def _check_classes(self) -> None:
        classes = self.metainfo["classes"]
        if not self.cat_ids:
            raise OssConfigError(
                f"{self._annotations} has none of the classes {classes}: give metainfo=dict(classes=...) the names in "
                "its categories"
            )
        if len(self.cat_ids) < len(classes):
            _logger.warning(
                "%s has %d of %d classes: no sample has the others", self._annotations, len(self.cat_ids), len(classes)
            )


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator, unused-ignore] # as above
@guards_methods
class OSSLoadImageFromFile(LoadImageFromFile):  # type: ignore[misc, unused-ignore] # as above
    """A ``LoadImageFromFile`` for the samples of :class:`OSSDetDataset`.

    Samples of other datasets are read as ``LoadImageFromFile`` reads them, through ``backend_args``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Read and decode the image of a sample.

        Raises:
            OssError: The image cannot be read, and ``ignore_empty`` is not set.
            OssFormatError: It cannot be decoded, and ``ignore_empty`` is not set.
        """
        source = results.pop(_SOURCE, None)
        uri = results["img_path"]
        if source is None or not uri.startswith("oss://"):
            sample: dict[str, Any] | None = super().transform(results)
            return sample
        try:
            image = self._decoded(uri, source.read(uri))
        except OssError as error:
            if not self.ignore_empty:
                raise
            _logger.warning("another sample takes the place of %s: %s", uri, error)
            return None
        if self.to_float32:
            image = image.astype("float32")
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results

    def _decoded(self, uri: str, content: bytes) -> Any:  # noqa: ANN401 - an array
        try:
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        except Exception as error:
            # Each decoder has its own exceptions.
            raise OssFormatError(f"{uri} ({len(content)} bytes) cannot be decoded: {error}") from error
        if image is None:
            raise OssFormatError(f"{uri} ({len(content)} bytes) is no image that {self.imdecode_backend} can decode")
        return image
