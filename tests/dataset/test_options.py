import inspect
from typing import Any

import pytest

from osstorchconnector import OssConfig, OssConfigError, OssIterableDataset, OssMapDataset
from osstorchconnector.dataset.options import DatasetOptions, MapOptions, Options, Policy, StreamOptions

CONSTRUCTORS: dict[str, tuple[Any, ...]] = {
    "from_prefix": ("oss://bucket/prefix/",),
    "from_objects": (["oss://bucket/a"],),
    "from_manifest_file": ("oss://bucket/manifest", print, "oss://bucket/"),
}


def build(dataset: Any, constructor: str, **options: Any) -> Any:
    where = {"endpoint": "127.0.0.1:1", "config": OssConfig(anonymous=True)}
    return getattr(dataset, constructor)(*CONSTRUCTORS[constructor], **where, **options)


def test_defaults() -> None:
    assert Options.of_stream({}) == Options()
    assert Options.of_map({}) == Options()
    assert Options().policy == Policy("raise", "raise", "raise", None)


@pytest.mark.parametrize("constructor", CONSTRUCTORS)
def test_every_constructor_takes_every_option(constructor: str) -> None:
    options: dict[str, Any] = {
        "on_error": {"missing": "skip", "transform": print},
        "error_limit": 3,
        "directory_markers": True,
        "shuffle": True,
        "shuffle_block": 100,
        "seed": 5,
        "batch_size": 32,
        "shard": (1, 4),
        "split_workers": False,
        "process_group": None,
        "even": "none",
        "order": "arrival",
        "advance_epochs": False,
    }
    assert set(options) == set(DatasetOptions.__optional_keys__)
    dataset = build(OssIterableDataset, constructor, **options)
    policy = Policy(missing="skip", transform=print, error_limit=3)
    del options["on_error"], options["error_limit"]
    assert dataset._options == Options(policy=policy, **options)
    assert set(MapOptions.__optional_keys__) == {"on_error", "error_limit", "directory_markers"}
    dataset = build(OssMapDataset, constructor, on_error="substitute", error_limit=0, directory_markers=True)
    assert dataset._options.policy == Policy("substitute", "substitute", "substitute", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shufle": True}, "unknown option shufle: the options are advance_epochs, batch_size, directory_markers"),
        ({"shuffle": 1}, "shuffle must be True or False"),
        ({"shuffle": True, "shuffle_block": 0}, "shuffle_block must be an integer of at least 1"),
        ({"shuffle_block": 10}, "shuffle_block needs shuffle=True"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"seed": 1 << 64}, r"seed must be below 2\*\*64"),
        ({"seed": 1.0}, "seed must be an integer"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, not 0"),
        ({"batch_size": True}, "batch_size must be an integer"),
        ({"shard": (2, 2)}, r"invalid shard \(2, 2\): 0 <= index < count is needed"),
        ({"shard": (-1, 2)}, "0 <= index < count is needed"),
        ({"shard": "rank"}, "shard must be 'auto', 'ranks', None or a tuple"),
        ({"split_workers": 0}, "split_workers must be 'auto', True or False, not 0"),
        ({"shard": (0, 2), "process_group": object()}, "process_group needs shard='auto'"),
        ({"even": "wrap"}, "even must be one of 'pad', 'drop', 'none'"),
        ({"order": "random"}, "order must be one of 'listed', 'arrival'"),
        ({"on_error": "ignore"}, "on_error must be 'raise', 'substitute', 'skip' or a function"),
        (
            {"on_error": {"lost": "raise"}},
            "on_error has the unknown key 'lost': the failure classes are missing, unreadable",
        ),
        ({"on_error": "skip"}, 'makes a rank end early.*even="none"'),
        ({"on_error": {"missing": "skip"}, "even": "drop"}, "does not go together with even='drop'"),
        ({"error_limit": -1}, "error_limit must be an integer of at least 0"),
        ({"directory_markers": None}, "directory_markers must be True or False"),
    ],
)
def test_a_wrong_option_is_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OssConfigError, match=message):
        build(OssIterableDataset, "from_prefix", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffle": True}, "unknown option shuffle: the options are directory_markers, error_limit, on_error"),
        ({"on_error": "skip"}, "an object at every index, so it cannot skip any"),
        ({"on_error": 3}, "on_error must be"),
    ],
)
def test_an_option_that_a_map_dataset_does_not_have_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OssConfigError, match=message):
        build(OssMapDataset, "from_prefix", **options)


def test_every_option_is_described() -> None:
    described = "".join(inspect.getdoc(options) or "" for options in (MapOptions, StreamOptions, DatasetOptions))
    for name in DatasetOptions.__optional_keys__:
        assert f"    {name}: " in described
