"""What the code of each page needs around it: objects, values of the reader's program, and smaller numbers.

A page is a program of its own: its blocks of Python run one after the other, after the lines of its scene. So do its
blocks for a shell. The endpoint and the credential file of the pages are replaced by those of an emulator that has the
buckets.
"""

from dataclasses import dataclass, field
from typing import Final

CONNECTION: Final = """
import os
connection = {"endpoint": ENDPOINT, "cred_path": CRED_PATH, "region": os.environ["OSS_REGION"]}
from osstorchconnector import OssClient
client = OssClient(**connection)
"""


@dataclass(frozen=True)
class Scene:
    """How the code of a page runs."""

    #: Lines of Python before the page's own.
    python: str = ""
    #: Lines of Python after the page's own: what has to be true then.
    ends: str = ""
    #: Lines for a shell before the page's own.
    shell: str = ""
    #: Texts of the page's Python that a reader would replace too, or that make a test long.
    replaced: dict[str, str] = field(default_factory=dict)
    #: The same for its lines for a shell.
    replaced_in_shell: dict[str, str] = field(default_factory=dict)
    #: Modules that the page needs.
    needs: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ("bucket",)
    #: What the output of the shell has to contain.
    printed: tuple[str, ...] = ()


PROGRAMS: Final = {
    "concepts/length.md": Scene(
        CONNECTION
        + """
from torch.utils.data import BatchSampler, DataLoader, RandomSampler
from osstorchconnector import OssIterableDataset, OssMapDataset
uris = [f"oss://bucket/{number:03}" for number in range(70)]
for uri in uris:
    client.put(uri, b"x")
""",
        replaced={"num_workers=8": "num_workers=2"},
    ),
    "concepts/order.md": Scene(
        CONNECTION
        + """
import lightning
from torch.utils.data import DataLoader
from osstorchconnector import OssIterableDataset
for number in range(40):
    client.put(f"oss://bucket/train/{number:03}", b"x")
""",
        replaced={"num_workers=8": "num_workers=2, collate_fn=list", "range(10)": "range(2)"},
        needs=("lightning",),
    ),
    "guides/archives.md": Scene(
        CONNECTION
        + """
for number in range(20):
    client.put(f"oss://bucket/train/{number % 2}/{number:02}.txt", b"sample %d" % number)
""",
        ends="""
archive = list(OssIterableDataset.from_tar(tar, index, endpoint))
assert [(item.name, item.label, item.read()) for item in archive][:2] == [
    ("0/00.txt", "0", b"sample 0"),
    ("0/02.txt", "0", b"sample 2"),
]
assert sorted(item.name for item in shuffled) == [item.name for item in archive]
""",
    ),
    "guides/accelerate.md": Scene(
        CONNECTION
        + """
import torch
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters())
loader = torch.utils.data.DataLoader(torch.zeros(4, 1))
def train_one_step(accelerator, model, optimizer, loader): pass
""",
        ends="""
saved = [item.name for item in client.list("oss://bucket/run-1/", delimiter="/")]
assert saved == ["run-1/step-100/", "run-1/step-200/"]
""",
        replaced={"range(step, 1000)": "range(step, 200)"},
        needs=("accelerate",),
    ),
    "guides/checkpoints.md": Scene(
        """
import torch
model = torch.nn.Linear(2, 2)
epochs = 2
def train(model): pass
""",
        shell="export OSS_ACCESS_KEY_ID=$ID OSS_ACCESS_KEY_SECRET=$SECRET\n",
        replaced_in_shell={"oss-cn-hangzhou.aliyuncs.com": "$OSS_ENDPOINT"},
    ),
    "guides/configuration.md": Scene(),
    "guides/converting.md": Scene(
        CONNECTION
        + """
import torch, torch.distributed.checkpoint as dcp
from osstorchconnector import OssFileSystem
writer = OssFileSystem(**connection).writer("oss://bucket/run/step-1200")
dcp.save({"model": {"weight": torch.zeros(3)}, "step": 1}, storage_writer=writer, no_dist=True)
""",
        shell="""
python - <<'END'
import os, torch, torch.distributed.checkpoint as dcp
from osstorchconnector import OssFileSystem
writer = OssFileSystem(os.environ["OSS_ENDPOINT"]).writer("oss://bucket/run/step-1200")
dcp.save({"model": {"weight": torch.zeros(3)}, "step": 1}, storage_writer=writer, no_dist=True)
END
""",
        needs=("safetensors",),
        printed=("step-1200.pt",),
    ),
    "guides/copying.md": Scene(
        shell="echo model > model.pt; mkdir -p images models; echo 1 > images/1.png; osst cp model.pt oss://bucket/a\n",
        printed=("model.pt", "1.png"),
    ),
    "guides/credentials.md": Scene(),
    "guides/credentials-by-place.md": Scene(),
    "guides/distributed-checkpoints.md": Scene(
        shell="""
python - <<'END'
import os, torch, torch.distributed.checkpoint as dcp
from osstorchconnector import OssFileSystem
writer = OssFileSystem(os.environ["OSS_ENDPOINT"]).writer("oss://bucket/run-7/step-1200")
dcp.save({"weight": torch.zeros(3)}, storage_writer=writer, no_dist=True)
END
""",
        printed=("oss://bucket/run-7/step-1200",),
    ),
    "guides/bench.md": Scene(
        shell='osst() { command osst "$@" || [ $? = 1 ]; }\nhead -c 1000000 /dev/zero > 1; osst cp 1 oss://bucket/train/1\n',
        replaced_in_shell={
            "--traffic 20G --seconds 60": "--traffic 20M --seconds 5",
            "train/  ": "train/ --traffic 20M --seconds 5 ",
        },
        printed=("bench.html",),
    ),
    # A server on this machine gives warnings, which are exit status 1, and a busy one is too slow: 2.
    "guides/doctor.md": Scene(
        shell='osst() { command osst "$@" || [ $? -le 2 ]; }\necho 1 > 1; osst cp 1 oss://bucket/train/1\n',
        printed=("b.zip",),
    ),
    "guides/frameworks.md": Scene(
        CONNECTION
        + """
import torch
for number in range(6):
    client.put(f"oss://bucket/train/{number}", b"png")
seen = []
class model(torch.nn.Linear):
    def forward(self, batch):
        seen.append(len(batch))
        return super().forward(batch)
class accelerator:
    device = "cpu"
    prepare = staticmethod(lambda *given: given)
    backward = staticmethod(lambda loss: loss.backward())
model = model(1, 1)
optimizer = torch.optim.SGD(model.parameters())
def to_tensor(item): return torch.tensor([float(len(item.read()))])
""",
        ends="""
assert seen == [4, 2]
assert sorted(item.name for item in loader) == [f"train/{number}" for number in range(6)]
""",
    ),
    "guides/from-ossfs.md": Scene(
        """
import os
import fsspec
os.environ["OSS_ENDPOINT"] = ENDPOINT
""",
    ),
    "guides/from-s3torchconnector.md": Scene(
        CONNECTION
        + """
client.put("oss://bucket/train/1.jpg", b"1")
client.put("oss://bucket/train/2.jpg", b"2")
"""
    ),
    "guides/fsspec.md": Scene(
        """
import io, os, tarfile
os.environ["OSS_ENDPOINT"] = ENDPOINT
import pandas
from osstorchconnector.fsspec import FsspecFileSystem
files = FsspecFileSystem()
with files.open("oss://bucket/table.parquet", "wb") as file:
    pandas.DataFrame({"a": [1]}).to_parquet(file)
files.pipe("oss://bucket/run/x", b"x")
files.pipe("oss://bucket/d.csv", b"a,b\\n1,2\\n")
""",
        # The page says that this is the way back.
        replaced={
            "ossfs.OSSFileSystem, clobber=True)": "ossfs.OSSFileSystem, clobber=True)\n"
            'fsspec.register_implementation("oss", FsspecFileSystem, clobber=True)'
        },
        needs=("datasets", "ossfs", "pyarrow", "webdataset"),
    ),
    "guides/lightning.md": Scene(
        """
import torch
from lightning.pytorch.demos.boring_classes import BoringModel, RandomDataset
model = BoringModel()
data = torch.utils.data.DataLoader(RandomDataset(32, 8))
""",
        replaced={
            "Trainer(plugins": "Trainer(max_steps=2, logger=False, accelerator='cpu', plugins",
            "Trainer(strategy": "Trainer(logger=False, accelerator='cpu', strategy",
        },
        needs=("lightning",),
    ),
    "guides/manifests.md": Scene(
        CONNECTION
        + """
client.put("oss://images/train/cat/1.png", b"png")
with open("train.manifest", "w") as file:
    file.write("train/cat/1.png cat\\n")
with open("list.csv", "w") as file:
    file.write("train/cat/1.png;cat;anything\\n")
os.makedirs("train/cat")
open("train/cat/1.png", "wb").write(b"png")
""",
        replaced={'"/data/train/"': 'os.path.abspath("train") + "/"'},
        ends="""
manifest = OssIterableDataset.from_manifest_file("train.manifest", None, "oss://images/", endpoint)
parsed = OssIterableDataset.from_manifest_file("list.csv", parse, "oss://images/", endpoint)
for one in (manifest, parsed):
    assert [(item.name, item.label, item.read()) for item in one] == [("train/cat/1.png", "cat", b"png")]
assert [(item.key, item.read()) for item in dataset] == [(os.path.abspath("train/cat/1.png"), b"png")]
""",
        shell="echo 1 > 1.png; osst cp 1.png oss://images/train/cat/1.png\n",
        buckets=("images",),
        printed=("train.manifest",),
    ),
    "guides/models.md": Scene(
        """
import os, safetensors.torch, torch
from osstorchconnector import OssClient
linear = torch.nn.Linear(64, 64)
weights = {**linear.state_dict(), "norm.weight": torch.ones(64, dtype=torch.bfloat16)}
client = OssClient(ENDPOINT, CRED_PATH, region=os.environ["OSS_REGION"])
client.put("oss://bucket/llama/model.safetensors", safetensors.torch.save(weights))
""",
        replaced={'"gloo"': '"gloo", init_method="file://" + os.path.abspath("store"), rank=0, world_size=1'},
        needs=("safetensors",),
    ),
    "guides/model-files.md": Scene(
        CONNECTION
        + """
for number in (1, 2):
    client.put(f"oss://bucket/llama/model-0000{number}-of-00002.safetensors", b"x" * 10_000)
""",
        shell="echo {} > config.json; cp config.json model.safetensors; osst cp *.json *.safetensors oss://bucket/llama/\n",
        printed=("config.json", "model.safetensors"),
    ),
    "guides/safetensors.md": Scene(needs=("safetensors",)),
    "guides/security.md": Scene("import torch\nclass MyPlannerData: pass\n"),
    "guides/statistics.md": Scene(
        CONNECTION
        + """
for number in range(40):
    client.put(f"oss://bucket/train/{number:02}.jpg", b"jpg")
""",
        ends="""
assert stats.waits_for == "transform"
assert stats.samples == 40
assert after.requests["get"] - before.requests["get"] == 1
assert after.verified_bytes - before.verified_bytes == 7
assert b"oss_requests_total" in generate_latest()
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept = InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(kept))
assert len(dataset[[4, 5]]) == 2
assert [span.name for span in kept.get_finished_spans()] == ["oss.get", "oss.get", "osstorchconnector.batch"]
""",
        needs=("prometheus_client", "opentelemetry.sdk"),
    ),
    "guides/storing.md": Scene(
        CONNECTION + 'import datetime\ndata = b"jpg"\nclient.put("oss://bucket/labels.json", b"{}")\n'
        "when_i_read_them = datetime.datetime.now(datetime.UTC)\n"
    ),
    "guides/troubleshooting.md": Scene(),
    "guides/tuning.md": Scene(CONNECTION),
    "guides/verify.md": Scene(
        shell="""
mkdir images; echo 1 > images/1.png
osst cp -r images oss://bucket/train/
osst manifest oss://bucket/train/ --snapshot --output train.manifest
osst manifest oss://bucket/train/ --output keys.txt
""",
        printed=("keys.txt",),
    ),
}

# Their blocks of Python are files of tests.
TESTS: Final = ("guides/emulator.md",)

# Blocks that readers paste into a shell or save, one after the other; with what the last lines must have.
PASTED: Final = {
    "tutorials/images.md": ("accuracy",),
    "tutorials/text.md": ("resumed",),
    "tutorials/checkpoints.md": ("oss://models/run/epoch-",),
    "tutorials/distributed.md": ("rank 0", "rank 1"),
    "tutorials/serving.md": ("served",),
}

# Pages whose code other tests run: with what they need, or in more than one way.
ELSEWHERE: Final = {
    "guides/ultralytics.md": "tests/integrations/test_ultralytics.py",
    "guides/commands.md": "tests/test_guides.py",
    "guides/openmmlab.md": "tests/integrations/test_mmdetection.py",
    "guides/ray.md": "tests/test_ray.py",
    "guides/transformers.md": "tests/test_transformers.py",
    "start/quick-start.md": "tests/test_readme.py",
    "zh/quick-start.md": "tests/test_readme.py",
    # How to get the package: from a checkout, or a wheel of `make wheel`, which `tools/try_wheel.py` installs.
    "start/install.md": "tools/try_wheel.py",
}
