"""The files of deploy/ are valid, fit together and to the examples, and give the rights that a training needs."""

import copy
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.utils.data import DataLoader

from osstorchconnector import DataObject, OssClient, OssMapDataset, OssPermissionError
from osstorchconnector.connection.unfinished_uploads import find_unfinished
from osstorchconnector.metrics import PrometheusCollector
from osstorchconnector.testing import Emulator, KeyPair

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CHART = DEPLOY / "helm" / "osstorchconnector-job"


def documents(name: str) -> list[dict[str, Any]]:
    found = list(yaml.safe_load_all((KUBERNETES / name).read_text()))
    assert all(isinstance(document, dict) for document in found)
    return found


def validate(document: dict[str, Any]) -> None:
    kubernetes = pytest.importorskip("kubernetes_validate")
    kubernetes.validate(document, kubernetes.latest_version(), strict=True)


def rendered() -> dict[str, Any]:
    """Render the chart. Its template has values only, so that this needs no helm."""
    text = (CHART / "templates" / "job.yaml").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    names = {f".Values.{name}": value for name, value in values.items()}
    names |= {".Release.Name": "pretraining", ".Release.Namespace": "training"}
    # Every value is used.
    assert set(re.findall(r"\{\{ (\S+) \}\}", text)) == set(names)
    text = re.sub(r"\{\{ (\S+) \}\}", lambda found: str(names[found[1]]), text)
    job: dict[str, Any] = yaml.safe_load(text)
    return job


def pods() -> Iterator[dict[str, Any]]:
    """Yield the specifications of all pods."""
    yield documents("job.yaml")[0]["spec"]["template"]["spec"]
    replicas = documents("pytorchjob.yaml")[0]["spec"]["pytorchReplicaSpecs"]
    assert list(replicas) == ["Master", "Worker"]
    for replica in replicas.values():
        yield replica["template"]["spec"]


@pytest.mark.parametrize("name", ["job.yaml", "service-account.yaml"])
def test_a_manifest_is_valid(name: str) -> None:
    for document in documents(name):
        validate(document)


def test_an_unknown_field_is_found() -> None:
    pytest.importorskip("kubernetes_validate")
    job = copy.deepcopy(documents("job.yaml")[0])
    job["spec"]["template"]["spec"]["serviceAccount Name"] = "trainer"
    with pytest.raises(Exception, match="serviceAccount Name"):
        validate(job)


def test_the_pods_of_the_pytorchjob_are_valid() -> None:
    (job,) = documents("pytorchjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    # The fields of the operator's own types, which no schema of Kubernetes has.
    assert set(job["spec"]) == {"nprocPerNode", "runPolicy", "pytorchReplicaSpecs"}
    for number, replica in enumerate(job["spec"]["pytorchReplicaSpecs"].values()):
        assert set(replica) == {"replicas", "restartPolicy", "template"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, **replica["template"]}
        validate(pod)
        # The operator sets its environment in the container of this name.
        assert [container["name"] for container in replica["template"]["spec"]["containers"]] == ["pytorch"]


def test_the_chart_is_the_job() -> None:
    job = documents("job.yaml")[0]
    assert rendered() == job
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["name"] == CHART.name


def test_the_pods_get_the_role_of_the_service_account() -> None:
    namespace, account = documents("service-account.yaml")
    # Names of the add-on of ACK.
    assert namespace["metadata"]["labels"] == {"pod-identity.alibabacloud.com/injection": "on"}
    assert list(account["metadata"]["annotations"]) == ["pod-identity.alibabacloud.com/role-name"]
    name = f"{account['metadata']['namespace']}:{account['metadata']['name']}"
    for manifest in ("job.yaml", "pytorchjob.yaml"):
        assert documents(manifest)[0]["metadata"]["namespace"] == namespace["metadata"]["name"]
    assert all(pod["serviceAccountName"] == account["metadata"]["name"] for pod in pods())
    trust = json.loads((DEPLOY / "ram" / "trust-ack.json").read_text())["Statement"][0]
    assert trust["Condition"]["StringEquals"]["oidc:sub"] == f"system:serviceaccount:{name}"
    # No key is written into a manifest, and no variable that would be found before the role.
    assert all("env" not in container for pod in pods() for container in pod["containers"])


def test_the_pods_have_shared_memory_for_the_workers_within_their_limit() -> None:
    for pod in pods():
        (container,) = pod["containers"]
        (volume,) = pod["volumes"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]
        size, limit = (
            int(text.removesuffix("Gi"))
            for text in (volume["emptyDir"]["sizeLimit"], container["resources"]["limits"]["memory"])
        )
        assert size < limit


def commands() -> Iterator[list[str]]:
    for pod in pods():
        yield pod["containers"][0]["command"]
    yield shlex.split(json.loads((DEPLOY / "pai" / "dlc-job.json").read_text())["UserCommand"])


def test_the_commands_name_options_that_the_examples_have() -> None:
    known: dict[str, set[str]] = {}
    for command in commands():
        (place,) = [number for number, word in enumerate(command) if word.startswith("/opt/examples/")]
        path = ROOT / "examples" / Path(command[place]).name
        if path.name not in known:
            known[path.name] = set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', path.read_text()))
        options = {word.partition("=")[0] for word in command[place + 1 :]}
        assert options <= known[path.name]
        assert {"--data", "--checkpoints", "--endpoint"} <= options
    assert set(known) == {"imagenet_ddp.py", "llm_pretraining.py"}


def test_the_image_has_what_the_commands_need() -> None:
    lines = (DEPLOY / "Dockerfile").read_text()
    assert "COPY examples /opt/examples" in lines
    users = {pod["securityContext"]["runAsUser"] for pod in pods()}
    assert users == {int(found) for found in re.findall(r"^USER (\d+)$", lines, flags=re.MULTILINE)}
    for package in ("pillow", "torchdata", "torchvision"):
        assert package in lines


@pytest.mark.slow(120)
def test_the_policy_allows_a_training_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("torchdata")
    role = KeyPair("role", "secret", policy=json.loads((DEPLOY / "ram" / "policy.json").read_text()))
    with Emulator(buckets=["training", "other"], key_pairs=[role]) as emulator:
        key = tmp_path / "key.json"
        key.write_text(json.dumps({"AccessKeyId": "role", "AccessKeySecret": "secret"}))
        client = OssClient(emulator.endpoint, cred_path=str(key), region=emulator.region)
        lines = b"\n".join(json.dumps({"text": "word " * 200}).encode() for _ in range(8))
        client.put("oss://training/corpus/0.jsonl", lines)
        # As the job does it, with several checkpoints: older ones are deleted.
        server = ["--endpoint", emulator.endpoint, "--cred-path", str(key), "--region", emulator.region]
        places = ["--data", "oss://training/corpus/", "--checkpoints", "oss://training/run-1/"]
        program = str(ROOT / "examples" / "llm_pretraining.py")
        command = [sys.executable, program, *places, *server, "--workers=1", "--steps=8", "--every=2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert "step 8" in done.stdout, done.stderr
        assert [item.name for item in client.list("oss://training/run-1/")] == [
            "run-1/step-000006.pt",
            "run-1/step-000008.pt",
        ]
        # A large object is uploaded in parts, and an unfinished upload can be found and removed.
        with client.writer("oss://training/large") as writer:
            writer.write(bytes(20_000_000))
        assert list(find_unfinished(client, "oss://training/")) == []
        for refused in (
            lambda: client.put("oss://other/key", b"bytes"),
            lambda: list(client.list("oss://other/")),
            client.list_buckets,
            lambda: client.delete_bucket("training"),
        ):
            with pytest.raises(OssPermissionError):
                refused()


def length(item: DataObject) -> int:
    return len(item.read())


@pytest.mark.slow(60)
def test_the_dashboard_shows_metrics_that_exist(emulator: Emulator, bucket: str) -> None:
    prometheus = pytest.importorskip("prometheus_client")
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    shown = {
        metric
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for metric in re.findall(r"oss_\w+", target["expr"])
    }
    # Metrics of datasets exist as long as a dataset that has delivered.
    for number in range(10):
        emulator.client().put(f"oss://{bucket}/{number}", b"bytes")
    dataset = OssMapDataset.from_prefix(f"oss://{bucket}/", transform=length, **emulator.connection)
    assert sum(DataLoader(dataset, batch_size=None, num_workers=1)) == 50
    # Once more in this process, after the workers have written down theirs.
    assert dataset[0] == 5
    registry = prometheus.CollectorRegistry()
    registry.register(PrometheusCollector())
    text = prometheus.generate_latest(registry).decode()
    exported = set(re.findall(r"^(oss_\w+)", text, flags=re.MULTILINE)) | set(re.findall(r"# TYPE (\w+)", text))
    assert len(shown) > 12
    assert len(dataset) == 10
    assert shown <= exported
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


def test_no_file_names_a_key_or_a_person() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert not re.search(r"LTAI|AccessKeySecret|access[-_]key", path.read_text(), flags=re.IGNORECASE), path


def test_the_page_names_every_file() -> None:
    page = (DEPLOY / "README.md").read_text()
    names = set(re.findall(r"\]\(([\w./-]+)\)", page))
    files = {path.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("*") if path.is_file()}
    chart = {name for name in files if name.startswith("helm/")}
    assert files - chart - {"README.md"} <= names
    assert all((DEPLOY / name).exists() for name in names)
