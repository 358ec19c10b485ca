"""What runs with the original and with this package, as programs of their own."""

INTERFACE = r"""
import importlib, inspect, json, re, sys
import osstorchconnector

MODULES = ["oss_checkpoint", "oss_dcp_filesystem", "oss_iterable_dataset", "oss_map_dataset", "oss_safetensor"]


def default(value):
    if inspect.isfunction(value):
        return value.__name__
    return repr(list(value) if isinstance(value, tuple) else value)


def parameters(function):
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        # What pybind11 makes has its signature in its documentation; arg0 and so on have no names.
        text = re.match(r"\w+\((.*)\) ->", function.__doc__ or "")
        parts = [part.strip() for part in text[1].split(",")] if text else []
        named = [part.partition(":")[0] for part in parts]
        return [[name, "POSITIONAL_OR_KEYWORD", ""] for name in named if not re.match(r"arg\d|self", name)]
    return [
        [one.name, one.kind.name, None if one.default is one.empty else default(one.default)]
        for one in found
        if one.name not in {"self", "cls"}
    ]


def described(value):
    if not inspect.isclass(value):
        return {"parameters": parameters(value)} if callable(value) else {}
    members = {}
    for base in reversed(value.__mro__):
        if base.__module__.startswith("osstorchconnector"):
            for name in vars(base):
                if name == "__init__" or not name.startswith("_"):
                    entry = getattr(value, name)
                    members[name] = parameters(entry) if callable(entry) else None
    return {"members": members}


found = {}
names = [name for name in dir(osstorchconnector) if not name.startswith("_")]
for name in names:
    value = getattr(osstorchconnector, name)
    if not inspect.ismodule(value) and getattr(value, "__module__", "").startswith("osstorchconnector"):
        found[name] = described(value)
found["DataObject"] = described(type(osstorchconnector.new_data_object("/bucket/key")))
# An initializer that is inherited from a static class has a signature that says nothing.
found["DataObject"]["members"].pop("__init__", None)
for name in MODULES:
    module = importlib.import_module(f"osstorchconnector.{name}")
    own = [one for one, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    found[name] = {"names": sorted(one for one in getattr(module, "__all__", own) if one.lower().startswith("oss"))}
    if name == "oss_safetensor":
        found["oss_safe_open"] = described(module.oss_safe_open)
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""

BEHAVIOUR = r'''
import json, os, re, signal, sys, tempfile, warnings
import torch
# Here once: the import takes seconds on a busy machine, longer than a case may.
import torch.distributed.checkpoint
import osstorchconnector as package

bucket, connection, wrong, result = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
uri = f"oss://{bucket}"
warnings.simplefilter("ignore")
cases = {}
SECONDS = 4


def case(function):
    cases[function.__name__.replace("_", " ")] = function


KEPT = []


def kept(made):
    """The original's objects use their maker after it is gone."""
    KEPT.append(made)
    return made


def client_of(given):
    return kept(package.OssClient(**given))


def client():
    return client_of(connection)


def one(item):
    return [item.key, item.size, item.label, item.read().hex()]


def named(*names):
    return [package.new_data_object(f"{uri}/{name}", 0, f"label {name}") for name in names]


def iterable(prefix="data/", **options):
    return kept(package.OssIterableDataset.from_prefix(f"{uri}/{prefix}", **connection, **options))


def mapped(prefix="data/", **options):
    return kept(package.OssMapDataset.from_prefix(f"{uri}/{prefix}", **connection, **options))


def of_objects(kind, *names, **options):
    return kept(kind.from_objects([f"{uri}/{name}" for name in names], **connection, **options))


def checkpoint():
    return kept(package.OssCheckpoint(**connection))


def files():
    return kept(package.OssDCPFileSystem(**connection))


def lines(reader):
    for line in reader.read().decode().split("\n"):
        key, _, label = line.partition(" ")
        yield key, label


MAP, STREAM = package.OssMapDataset, package.OssIterableDataset


@case
def stream_of_a_prefix(): return sorted(one(item) for item in iterable())
@case
def stream_of_a_prefix_held(): return sorted(one(item) for item in list(iterable()))
@case
def stream_twice():
    dataset = iterable(transform=one)
    return [sorted(dataset), sorted(dataset)]
@case
def stream_of_objects(): return sorted(of_objects(STREAM, "data/3", "data/1", transform=one))
@case
def stream_of_one_object(): return list(STREAM.from_objects(f"{uri}/data/3", **connection, transform=one))
@case
def stream_of_a_path(): return list(STREAM.from_objects([f"/{bucket}/data/3"], **connection, transform=one))
@case
def stream_with_a_missing_object(): return sorted(of_objects(STREAM, "data/3", "none", transform=one))
@case
def stream_of_no_objects(): return list(STREAM.from_objects([], **connection))
@case
def stream_of_another_scheme(): return list(STREAM.from_prefix("s3://bucket/", **connection))
@case
def stream_below_nothing(): return list(iterable("nothing/"))
@case
def stream_with_an_empty_object(): return sorted(iterable("empty/", transform=one))
@case
def stream_of_a_huge_object(): return [[item.size, len(item.read())] for item in iterable("huge/")]
@case
def stream_of_a_manifest():
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("data/3 three\ndata/1 one"); file.flush()
        return sorted(STREAM.from_manifest_file(file.name, lines, f"{uri}/", **connection, transform=one))
@case
def map_of_a_manifest_in_oss():
    dataset = MAP.from_manifest_file(f"{uri}/manifest", lines, f"{uri}/", **connection, transform=one)
    return [dataset[0], dataset[1]]
@case
def stream_forbidden(): return len(list(STREAM.from_prefix(f"{uri}/data/", **wrong)))
@case
def map_by_index():
    dataset = mapped(transform=one)
    return [len(dataset), dataset[0], dataset[-1], dataset.__getitems__([2, 0, 1])]
@case
def map_beyond_its_end(): return mapped()[6].key
@case
def map_of_objects(): return [of_objects(MAP, "data/3", "data/1", transform=one)[i] for i in (0, 1)]
@case
def map_iterated(): return [one(item) for item in mapped()]
@case
def map_with_a_missing_object(): return of_objects(MAP, "none", transform=lambda item: item and item.key)[0]
@case
def map_with_an_empty_object(): return of_objects(MAP, "empty/e", transform=one)[0]
@case
def map_of_a_huge_object():
    item = of_objects(MAP, "huge/h")[0]
    return [item.key, len(item.read())]
@case
def map_forbidden(): return len(MAP.from_prefix(f"{uri}/data/", **wrong))
@case
def map_is_continuous(): return [mapped().is_continuous(each) for each in ([], [1], [1, 2], [2, 1], [1, 3])]
@case
def item_in_a_block():
    with mapped()[0] as item:
        return one(item)
@case
def item_read_in_parts():
    item = mapped()[0]
    return [item.read(3).hex(), item.tell(), item.read(count=2).hex(), item.seek(1), item.seek(offset=-2, whence=2),
            item.read().hex(), item.seek(0), item.readline().hex(), item.seekable()]
@case
def item_into_a_buffer():
    item, buffer = mapped()[0], bytearray(4)
    return [item.readinto(buffer), buffer.hex()]
@case
def item_at_its_end():
    item = mapped()[0]
    return [len(item.read()), item.read().hex()]
@case
def item_beyond_its_end():
    item = mapped()[0]
    return [item.seek(1000), item.read().hex()]
@case
def item_before_its_start(): return mapped()[0].seek(-1)
@case
def item_closed():
    item = mapped()[0]
    return [item.close(), item.close()]
@case
def item_read_after_its_end():
    item = mapped()[0]
    item.close()
    return item.read().hex()
@case
def item_written(): return mapped()[0].write(b"1")
@case
def item_without_an_error():
    item = mapped()[0]
    return [item.err(), item.error_msg()]
@case
def item_copied():
    item = next(iter(iterable("data/0")))
    copied = item.copy()
    return [copied.key, copied.size, copied.label, copied.read().hex()]
@case
def name_of_a_path(): return package.new_data_object("/bucket/key", 5, "label").key
@case
def name_of_a_uri(): return package.new_data_object("oss://bucket/key").key
@case
def name_of_neither(): return package.new_data_object("bucket/key").key
@case
def described_by_hand():
    item = package.new_data_object("/bucket/key", 5, "label")
    return [item.size, item.label, item.err(), item.error_msg(), item.tell(), item.seekable()]
@case
def client_by_position():
    given = connection
    paths = given["cred_path"], given["config_path"]
    made = kept(package.OssClient(given["endpoint"], *paths, "id", 0, 1, None, given["region"]))
    return made.head_object(bucket, "data/1").size
@case
def client_gone():
    return package.OssClient(**connection).get_object(bucket, "data/1").read().hex()
@case
def client_head():
    item = client().head_object(bucket, "data/1")
    return [item.key, item.size, item.label, item.err()]
@case
def client_head_missing(): return client().head_object(bucket, "none").size
@case
def client_head_forbidden(): return client_of(wrong).head_object(bucket, "data/1").size
@case
def client_get(): return [one(client().get_object(bucket, "data/1", 0, 2, "label"))]
@case
def client_get_lazily():
    item = client().get_object(bucket, "data/1", label="label")
    return [item.key, item.label, item.read().hex()]
@case
def client_get_missing(): return client().get_object(bucket, "none").key
@case
def client_read_missing(): return client().get_object(bucket, "none").read().hex()
@case
def client_get_empty(): return client().get_object(bucket, "empty/e").read().hex()
@case
def client_read_forbidden(): return len(client_of(wrong).get_object(bucket, "data/1").read())
@case
def client_list(): return [[item.key, item.size, item.label] for item in client().list_objects(bucket, "data/")]
@case
def client_list_and_read(): return [one(item) for item in client().list_objects(bucket, "data/")]
@case
def client_list_nothing(): return len(list(client().list_objects(bucket, "nothing/")))
@case
def client_list_a_missing_bucket(): return len(list(client().list_objects(f"{bucket}-none", "")))
@case
def client_list_forbidden(): return len(list(client_of(wrong).list_objects(bucket, "data/")))
@case
def client_length_of_a_listing(): return len(client().list_objects(bucket, "data/"))
@case
def client_list_with_preload(): return sorted(one(item) for item in client().list_objects_with_preload(bucket, "data/"))
@case
def client_uris(): return [item.key for item in client().list_objects_from_uris(named("data/3", "data/1"))]
@case
def client_uris_read():
    return [[item.label, item.read().hex()] for item in client().list_objects_from_uris(named("data/3", "data/1"))]
@case
def client_uris_fetched_ahead():
    return [one(item) for item in client().list_objects_from_uris(named("data/3", "data/1"), True)]
@case
def client_no_uris(): return len(list(client().list_objects_from_uris([], True)))
@case
def client_uris_as_text(): return [item.key for item in client().list_objects_from_uris([f"{uri}/data/3"], True)]
@case
def client_uris_with_errors():
    found = client().list_objects_from_uris(named("data/3", "none", "data/1"), True, True)
    return [[item.key, item.err()] for item in found]
@case
def client_size_and_label_of_an_error():
    (item,) = client().list_objects_from_uris(named("none"), True, True)
    return [item.label, item.size]
@case
def client_uris_without_errors():
    return [item.key for item in client().list_objects_from_uris(named("data/3", "none", "data/1"), prefetch=True)]
@case
def client_uris_with_an_empty_object():
    return [one(item) for item in client().list_objects_from_uris(named("data/3", "empty/e"), True)]
@case
def client_uris_forbidden():
    return [item.err() for item in client_of(wrong).list_objects_from_uris(named("data/3"), True, True)]
@case
def client_uris_with_preload():
    return sorted(one(item) for item in client().list_objects_from_uris_with_preload(named("data/3", "data/1")))
@case
def client_preload_with_errors():
    found = client().list_objects_from_uris_with_preload(named("data/3", "none"), True)
    return sorted([item.key, item.err()] for item in found)
@case
def client_huge():
    item = client().get_object(bucket, "huge/h")
    return [len(item.read())]
@case
def client_remove_missing(): return client().remove_object(bucket, "none")
@case
def client_remove_forbidden(): return client_of(wrong).remove_object(bucket, "data/0")
@case
def client_rename():
    checked = client()
    with checked.put_object(bucket, "moving") as writer:
        writer.write(b"moved")
    checked.rename_object(bucket, "moving", bucket, "moved")
    return checked.head_object(bucket, "moved").size
@case
def client_answer_of_a_rename():
    checked = client()
    with checked.put_object(bucket, "moving too") as writer:
        writer.write(b"moved")
    return checked.rename_object(bucket, "moving too", bucket, "moved too") is None
@case
def client_rename_missing(): return client().rename_object(bucket, "none", bucket, "moved") is None
@case
def writer_in_a_block():
    with client().put_object(bucket, "written") as writer:
        counts = [writer.write(b"abc"), writer.write(bytearray(b"de")), writer.write(memoryview(b"f"))]
    return [counts, client().get_object(bucket, "written", type=2).read().hex()]
@case
def writer_by_hand():
    writer = client().put_object(bucket, "by hand")
    found = [writer.key, writer.label, writer.write(b"abc"), writer.tell()]
    found += [writer.err(), writer.error_msg(), writer.seekable()]
    writer.close()
    return [found, client().head_object(bucket, "by hand").size]
@case
def writer_of_nothing():
    client().put_object(bucket, "nothing").close()
    return client().head_object(bucket, "nothing").size
@case
def writer_after_an_exception():
    try:
        with client().put_object(bucket, "half") as writer:
            writer.write(b"half")
            raise KeyError
    except KeyError:
        return client().head_object(bucket, "half").size
@case
def writer_of_text(): return client().put_object(bucket, "text").write("text")
@case
def writer_to_a_missing_bucket():
    writer = client().put_object(f"{bucket}-none", "a")
    writer.write(b"1")
    writer.close()
@case
def writer_read(): return client().put_object(bucket, "unread").read().hex()
@case
def writer_moved(): return client().put_object(bucket, "unmoved").seek(0)
@case
def writer_after_its_end():
    writer = client().put_object(bucket, "ended")
    writer.write(b"1")
    writer.close()
    return writer.write(b"1")
@case
def archive_made(): return client().gen_tar_archive(f"{uri}/new.tar", f"{uri}/new.index", f"{uri}/data/")
@case
def archive_read():
    client().gen_tar_archive(f"{uri}/new.tar", f"{uri}/new.index", f"{uri}/data/")
    found = client().list_objects_from_tar(bucket, "new.tar", "new.index")
    return [len(found), sorted(item.read().hex() for item in found)]
@case
def archive_names():
    client().gen_tar_archive(f"{uri}/new.tar", f"{uri}/new.index", f"{uri}/data/")
    found = client().list_objects_from_tar(bucket, "new.tar", "new.index")
    return sorted([item.key, item.label] for item in found)
@case
def archive_counted():
    client().gen_tar_archive(f"{uri}/new.tar", f"{uri}/new.index", f"{uri}/data/")
    chunks = lambda *numbers: len(list(client().list_objects_from_tar(bucket, "new.tar", "new.index", *numbers, True)))
    return [chunks([3, 0], [2, 1]), chunks([3, 0, 3], []), chunks([4], [10])]
@case
def archive_beyond_its_end():
    client().gen_tar_archive(f"{uri}/new.tar", f"{uri}/new.index", f"{uri}/data/")
    return [item.err() for item in client().list_objects_from_tar(bucket, "new.tar", "new.index", [30], [], True, True)]
@case
def archive_after_another():
    made = client()
    made.gen_tar_archive(f"{uri}/new.tar", f"{uri}/new.index", f"{uri}/data/")
    list(made.list_objects_from_tar(bucket, "new.tar", "new.index"))
    return len(list(made.list_objects_from_tar(bucket, "none.tar", "none.index")))
@case
def archive_without_an_index(): return len(client().list_objects_from_tar(bucket, "none.tar", "none.index"))
@case
def checkpoint_stored():
    state = {"weight": torch.arange(10.0)}
    with checkpoint().writer(f"{uri}/checkpoint") as writer:
        torch.save(state, writer)
    held = checkpoint()
    with held.reader(oss_uri=f"{uri}/checkpoint") as reader:
        return torch.load(reader)["weight"].tolist()
@case
def checkpoint_missing():
    held = checkpoint()
    return held.reader(f"{uri}/none").read().hex()
@case
def checkpoint_without_an_endpoint(): return package.OssCheckpoint("").reader("oss://bucket/key").key
@case
def checkpoint_of_another_scheme(): return checkpoint().reader("s3://bucket/key").key
@case
def tensors_stored():
    held = package.OssSafetensor(**connection)
    held.save_file({"b": torch.arange(3), "a": torch.zeros(2, 2)}, f"{uri}/tensors", {"by": "hand"})
    loaded = held.load_file(f"{uri}/tensors")
    with held.safe_open(f"{uri}/tensors") as opened:
        found = [sorted(opened.keys()), opened.metadata(), opened.get_tensor("a").tolist()]
    return [sorted(loaded), loaded["b"].tolist(), *found]
@case
def tensors_by_hand():
    held = package.OssSafetensor(**connection)
    with client().put_object(bucket, "by-hand") as writer:
        held.do_save_safetensor({"a": torch.arange(3)}, writer)
    return held.load_file(f"{uri}/by-hand")["a"].tolist()
@case
def tensors_order():
    held = package.OssSafetensor(**connection)
    held.save_file({"b": torch.arange(3), "a": torch.zeros(2, 2)}, f"{uri}/ordered")
    with held.safe_open(f"{uri}/ordered") as opened:
        return opened.keys()
@case
def tensor_missing():
    held = package.OssSafetensor(**connection)
    held.save_file({"a": torch.arange(3)}, f"{uri}/few")
    with held.safe_open(f"{uri}/few") as opened:
        return opened.get_tensor("none").tolist()
@case
def tensor_sliced():
    held = package.OssSafetensor(**connection)
    held.save_file({"a": torch.arange(3)}, f"{uri}/sliced")
    with held.safe_open(f"{uri}/sliced") as opened:
        return opened.get_slice("a")[1:].tolist()
@case
def tensors_not_contiguous():
    return package.OssSafetensor(**connection).save_file({"a": torch.zeros(2, 3).t()}, f"{uri}/bad")
@case
def files_paths():
    held = files()
    return [held.concat_path("oss://bucket/a", "b"), held.init_path("oss://bucket/a"), held.mkdir("oss://bucket/a"),
            held.validate_checkpoint_id("oss://bucket/a"), held.validate_checkpoint_id("bucket")]
@case
def files_local_path():
    import pathlib
    return package.OssDCPFileSystem.validate_checkpoint_id(pathlib.Path("/a/b"))
@case
def files_exist(): return [files().exists(f"{uri}/data/1"), files().exists(f"{uri}/none")]
@case
def files_exist_forbidden(): return package.OssDCPFileSystem(**wrong).exists(f"{uri}/data/1")
@case
def files_removed(): return files().rm_file(f"{uri}/none")
@case
def files_renamed():
    held = files()
    with held.create_stream(f"{uri}/dcp/a", "wb") as stream:
        stream.write(b"abc")
    held.rename(old_path=f"{uri}/dcp/a", new_path=f"{uri}/dcp/b")
    with held.create_stream(f"{uri}/dcp/b", "rb") as stream:
        return [stream.read().hex(), held.exists(f"{uri}/dcp/a")]
@case
def files_opened_otherwise():
    with files().create_stream(f"{uri}/data/1", "ab"):
        pass
@case
def files_missing():
    with files().create_stream(f"{uri}/none", "rb") as stream:
        return stream.read().hex()
@case
def files_distributed():
    import torch.distributed.checkpoint as dcp
    held = files()
    dcp.save({"a": torch.arange(4)}, storage_writer=held.writer(path=f"{uri}/distributed"), no_dist=True)
    state = {"a": torch.zeros(4, dtype=torch.int64)}
    dcp.load(state, storage_reader=held.reader(path=f"{uri}/distributed"), no_dist=True)
    return state["a"].tolist()
@case
def manifest_of_imagenet():
    import io
    return list(package.imagenet_manifest_parser(io.BytesIO(b"a.png\tcat\nb.png\n c.png\tdog \textra\n")))
@case
def map_of_a_repeated_object(): return [one(item) for item in of_objects(MAP, "data/3", "data/3")]
@case
def map_sliced(): return [item.key for item in mapped()[1:3]]
@case
def map_in_threads():
    from concurrent.futures import ThreadPoolExecutor
    dataset = mapped()
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda index: one(dataset[index % 6]), range(24)))
@case
def map_of_local_files():
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/a", "w") as file:
            file.write("x")
        dataset = kept(MAP.from_prefix(f"{folder}/", endpoint="", config_path=connection["config_path"]))
        return [[item.size, item.read().hex()] for item in dataset]
@case
def map_without_an_endpoint():
    with tempfile.TemporaryDirectory() as folder:
        return len(MAP.from_prefix(f"{folder}/", endpoint=None, config_path=connection["config_path"]))
@case
def map_with_a_provider():
    keys = json.load(open(connection["cred_path"]))
    class Keys:
        access_key_id, access_key_secret, security_token = keys["AccessKeyId"], keys["AccessKeySecret"], None
        def get_access_key_id(self): return self.access_key_id
        def get_access_key_secret(self): return self.access_key_secret
        def get_security_token(self): return self.security_token
    class Provider:
        def get_credentials(self): return Keys()
    given = {**connection, "cred_path": ""}
    return len(kept(MAP.from_prefix(f"{uri}/data/", **given, cred_provider=Provider())))
@case
def map_at_an_endpoint_with_a_slash():
    return len(kept(MAP.from_prefix(f"{uri}/data/", **{**connection, "endpoint": connection["endpoint"] + "/"})))
@case
def item_lines(): return [line.hex() for line in mapped()[0]]
@case
def item_read_by_minus_one(): return mapped()[0].read(-1).hex()
@case
def item_pickled():
    import pickle
    return pickle.loads(pickle.dumps(mapped()[0])).read().hex()
@case
def item_labelled():
    item = mapped()[0]
    item.label = "mine"
    return item.label
@case
def item_moved_after_its_end():
    item = mapped()[0]
    item.close()
    return item.seek(0)
@case
def client_get_a_number(): return client().get_object(bucket, 5).read().hex()
@case
def client_get_without_a_key(): return client().get_object(bucket, "").read().hex()
@case
def client_get_with_a_slash(): return client().get_object(bucket, "/data/1").read().hex()
@case
def client_size_before(): return client().get_object(bucket, "data/1").size
@case
def client_get_less(): return len(client().get_object(bucket, "data/1", 5).read())
@case
def client_error_of_a_missing_object(): return client().get_object(bucket, "none").err()
@case
def client_head_of_a_directory(): return client().head_object(bucket, "data/").size
@case
def client_uris_of_numbers(): return [item.key for item in client().list_objects_from_uris([5], True)]
@case
def client_preload_nothing(): return len(list(client().list_objects_with_preload(bucket, "nothing/")))
@case
def client_rename_to_itself():
    with client().put_object(bucket, "itself") as writer:
        writer.write(b"1")
    client().rename_object(bucket, "itself", bucket, "itself")
    return client().head_object(bucket, "itself").size
@case
def writer_of_an_array():
    import array
    with client().put_object(bucket, "array") as writer:
        count = writer.write(array.array("i", [1, 2]))
    return [count, client().head_object(bucket, "array").size]
@case
def writer_of_a_buffer_with_gaps():
    with client().put_object(bucket, "gaps") as writer:
        writer.write(memoryview(b"abcdef")[::2])
    return client().get_object(bucket, "gaps", type=2).read().hex()
@case
def writer_flushed(): return client().put_object(bucket, "flushed").flush()
@case
def writer_size():
    writer = client().put_object(bucket, "size")
    found = [writer.size, writer.write(b"abc"), writer.size]
    writer.close()
    return found
@case
def item_flushed(): return mapped()[0].flush()
@case
def item_told_after_its_end():
    item = mapped()[0]
    item.close()
    return item.tell()
@case
def item_in_a_block_after_its_end():
    item = mapped()[0]
    item.close()
    return item.__enter__() is item
@case
def client_read_a_line():
    held = client()
    with held.put_object(bucket, "lines") as writer:
        writer.write(b"one\ntwo")
    reader = held.get_object(bucket, "lines", type=1)
    return [reader.readline().hex(), reader.readline().hex()]
@case
def checkpoint_of_pickled_lines():
    import pickle
    held = checkpoint()
    with held.writer(f"{uri}/pickled") as writer:
        pickle.dump({"a": 1}, writer, 0)
    with held.reader(f"{uri}/pickled") as reader:
        return pickle.load(reader)
@case
def checkpoint_of_an_empty_object():
    held = checkpoint()
    return held.reader(f"{uri}/empty/e").read().hex()
@case
def tensors_of_every_kind():
    held = package.OssSafetensor(**connection)
    kinds = (torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.float64)
    held.save_file({str(kind): torch.ones(2, 3).to(kind) for kind in kinds}, f"{uri}/kinds")
    return sorted([name, str(one.dtype), one.float().tolist()] for name, one in held.load_file(f"{uri}/kinds").items())
@case
def tensors_that_share():
    held, tensor = package.OssSafetensor(**connection), torch.zeros(4)
    held.save_file({"a": tensor, "b": tensor}, f"{uri}/shared")
    return sorted(held.load_file(f"{uri}/shared"))
@case
def tensors_in_a_list(): return package.OssSafetensor(**connection).save_file([torch.zeros(1)], f"{uri}/list")
@case
def tensors_in_another_format(): return package.OssSafetensor(**connection).load_file(f"{uri}/data/0")
@case
def files_exist_below_a_directory():
    held = files()
    return [held.exists(path) for path in (f"{uri}/data", f"{uri}/data/", f"{uri}/dat", uri, f"{uri}-none")]
@case
def files_joined_with_a_slash(): return files().concat_path("oss://bucket/a", "/b")
@case
def files_overwritten():
    import torch.distributed.checkpoint as dcp
    held, state = files(), {"a": torch.zeros(2, dtype=torch.int64)}
    for value in (1, 2):
        dcp.save({"a": torch.full((2,), value)}, storage_writer=held.writer(f"{uri}/again"), no_dist=True)
    dcp.load(state, storage_reader=held.reader(f"{uri}/again"), no_dist=True)
    return state["a"].tolist()
@case
def manifest_with_spaces():
    import io
    lines = (b"  a.png  ", b"\t b.png", b"a.png\t\n", b"a.png\r\nb.png\tc\r\n")
    return [list(package.imagenet_manifest_parser(io.BytesIO(line))) for line in lines]
@case
def manifest_of_nothing():
    import io
    return list(package.imagenet_manifest_parser(io.BytesIO(b"")))
@case
def manifest_of_other_bytes():
    import io
    return list(package.imagenet_manifest_parser(io.BytesIO(b"\xff\n")))
@case
def manifest_missing():
    return list(kept(STREAM.from_manifest_file("/nowhere/manifest", lines, f"{uri}/", **connection)))
@case
def everything_imported():
    exec("from osstorchconnector import *", {})


def outcome(function):
    try:
        return ["returns", function()]
    except BaseException as error:
        number = re.search(r"errno=(\d+)", str(error))
        number = int(number[1]) if number else getattr(error, "errno", None)
        names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ in {"builtins", "io"}]
        return ["raises", names, number, str(error)[:300]]


found = {}
for name, function in cases.items():
    # Each in a process of its own: some end the process.
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            answer = json.dumps(outcome(function)).encode()
            os.write(file.fileno(), answer)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        file.seek(0)
        found[name] = json.loads(file.read()) if status == 0 else ["hangs" if status == signal.SIGALRM else "crashes"]
with open(result, "w") as file:
    json.dump(found, file)
'''
