import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from osstorchconnector.testing import Emulator

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow(180)
def test_train_digits_reaches_its_accuracy() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "train_digits.py")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    accuracy = re.search(r"test accuracy (\d+\.\d)%", result.stdout)
    assert accuracy is not None, result.stdout
    assert float(accuracy[1]) >= 95
    assert "images/s" in result.stdout


@pytest.mark.slow(180)
def test_train_digits_fails_below_its_accuracy() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "train_digits.py"), "--epochs", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "below 95%" in result.stderr


@pytest.mark.slow(180)
def test_fsdp_checkpoint_resumes_where_it_saved() -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            str(EXAMPLES / "fsdp_checkpoint.py"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    losses = re.search(r"steps: (\S+); resumed from the checkpoint: (\S+)", result.stdout)
    assert losses is not None, result.stdout
    assert losses[1] == losses[2]


def train_digits(emulator: Emulator, *options: str) -> "subprocess.Popen[str]":
    server = ["--endpoint", emulator.endpoint, "--cred-path", emulator.cred_path, "--region", emulator.region]
    command = [sys.executable, str(EXAMPLES / "train_digits.py"), "--epochs", "3", *server, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(process: "subprocess.Popen[str]") -> str:
    output, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors, errors
    return output


def weights_in(output: str) -> str:
    weights = re.search(r"weights ([0-9a-f]{16})", output)
    assert weights is not None, output
    return weights[1]


@pytest.fixture(scope="module")
def undisturbed_weights() -> str:
    with Emulator(buckets=["images"]) as undisturbed:
        return weights_in(output_of(train_digits(undisturbed, "--workers", "2")))


@pytest.mark.slow(240)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_train_digits_killed_in_the_middle_of_an_epoch_ends_with_the_same_weights(
    undisturbed_weights: str, workers: str
) -> None:
    with Emulator(buckets=["images"]) as emulator:
        killed = train_digits(emulator, "--workers", workers, "--checkpoint-batches", "3")
        client = emulator.client()
        # 1,437 images are for training: this is a checkpoint within the second epoch.
        deadline = time.monotonic() + 100
        while not any(1500 < int(item.name[-11:-3]) < 2800 for item in client.list("oss://images/checkpoints/")):
            assert time.monotonic() < deadline
            assert killed.poll() is None
        killed.kill()
        killed.communicate()
        output = output_of(train_digits(emulator, "--workers", workers))
        assert "resuming from oss://images/checkpoints/" in output
        assert "epoch 1" not in output
        assert weights_in(output) == undisturbed_weights


def connected(emulator: Emulator) -> list[str]:
    return ["--endpoint", emulator.endpoint, "--cred-path", emulator.cred_path, "--region", emulator.region]


def torchrun(ranks: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]


@pytest.mark.slow(280)
def test_imagenet_ddp_learns_and_resumes_with_other_ranks() -> None:
    pytest.importorskip("torchvision")
    program = str(EXAMPLES / "imagenet_ddp.py")
    with Emulator(buckets=["imagenet"]) as emulator:
        images = runpy.run_path(program)
        images["write_images"](emulator.client())
        options = [program, *connected(emulator), "--epochs"]
        first = subprocess.run([*torchrun(2), *options, "2"], capture_output=True, text=True, check=False, timeout=140)
        assert first.returncode == 0, first.stderr
        assert "2 ranks, from the beginning" in first.stdout
        # Three classes: a third is what a network gets that has learned nothing.
        assert max(float(found) for found in re.findall(r"(\S+)% of 24 images", first.stdout)) > 60
        then = subprocess.run([*torchrun(1), *options, "3"], capture_output=True, text=True, check=False, timeout=140)
        assert then.returncode == 0, then.stderr
        assert "1 ranks, from oss://imagenet/run/epoch-2.pt" in then.stdout
        assert re.findall(r"^epoch (\d)", then.stdout, flags=re.MULTILINE) == ["3"]


@pytest.mark.slow(240)
@pytest.mark.parametrize("workers", ["2", "0"])
def test_llm_pretraining_killed_and_resumed_has_the_same_batches(workers: str) -> None:
    pytest.importorskip("torchdata")

    def start(emulator: Emulator) -> "subprocess.Popen[str]":
        options = ["--steps", "60", "--workers", workers, *connected(emulator)]
        command = [sys.executable, str(EXAMPLES / "llm_pretraining.py"), *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    with Emulator(buckets=["corpus"]) as emulator:
        undisturbed, _ = start(emulator).communicate(timeout=80)
    steps = re.findall(r"step (\d+): (batch .*)", undisturbed)
    # The corpus is read more than once.
    assert [int(number) for number, _ in steps] == list(range(1, 61))
    assert len({batch.split(",")[0] for _, batch in steps}) == 60
    with Emulator(buckets=["corpus"]) as emulator:
        killed = start(emulator)
        assert killed.stdout is not None
        before = []
        for line in killed.stdout:
            before += re.findall(r"step (\d+): (batch .*)", line)
            if len(before) == 23:
                killed.kill()
                break
        killed.communicate()
        after, _ = start(emulator).communicate(timeout=80)
    assert "rank 0 resumes from oss://corpus/run/step-000020.pt" in after
    assert (before, re.findall(r"step (\d+): (batch .*)", after)) == (steps[:23], steps[20:])


@pytest.mark.slow(90)
def test_serving_changes_to_a_new_version() -> None:
    command = [sys.executable, str(EXAMPLES / "serving.py"), "--once", "--port", "0", "--seconds", "0.2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=80)
    assert result.returncode == 0, result.stderr
    assert '{"version": 1, "answer": 10.0}\nserving version 2\n{"version": 2, "answer": 100.0}\n' in result.stdout


@pytest.mark.slow(90)
def test_serving_without_a_model_says_where_it_looked() -> None:
    with Emulator(buckets=["models"]) as emulator:
        command = [sys.executable, str(EXAMPLES / "serving.py"), "--port", "0", *connected(emulator)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=80)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "oss://models/sum/ has no folder with a number and a model.safetensors\n"


@pytest.mark.slow(90)
def test_serving_survives_a_version_that_cannot_be_loaded_and_a_time_without_any() -> None:
    with Emulator(buckets=["models"]) as emulator:
        example = runpy.run_path(str(EXAMPLES / "serving.py"))
        publish, client = example["publish"], emulator.client()
        publish(1, [1, 1, 1, 1], emulator.connection)
        served = example["Served"]("oss://models/sum/", emulator.connection, 0.05)
        deadline = time.monotonic() + 40

        def wait_for_looks() -> None:
            emulator.clear_requests()
            while len(emulator.requests(operation="ListObjectsV2")) < 3:
                assert time.monotonic() < deadline, "it looks no more"
                time.sleep(0.05)

        try:
            client.delete("oss://models/sum/1/model.safetensors")
            wait_for_looks()
            # Of another shape than the model, and no model at all.
            publish(2, [1, 1], emulator.connection)
            wait_for_looks()
            client.put("oss://models/sum/3/model.safetensors", b"no tensors")
            wait_for_looks()
            assert served.answer([1, 2, 3, 4]) == {"version": 1, "answer": 10.0}
            publish(4, [2, 2, 2, 2], emulator.connection)
            while served.version != 4:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert served.answer([1, 2, 3, 4]) == {"version": 4, "answer": 20.0}
        finally:
            served.close()


# Each needs packages of its own; `make test-frameworks` has all of them.
@pytest.mark.slow(280)
@pytest.mark.parametrize(
    ("example", "packages", "expected"),
    [
        ("accelerate_state", ["accelerate"], "2 processes resumed from step 20"),
        ("lightning_trainer", ["lightning"], r"resumed from oss://training/run/epoch=1.ckpt, .* 32 steps"),
        ("ray_train", ["ray", "pyarrow"], "resumed from step 3, and ended at step 6"),
        (
            "transformers_finetune",
            ["transformers", "accelerate", "datasets", "safetensors"],
            "64 texts; loss .* with oss://models/tuned/, newest oss://models/run/checkpoint-40",
        ),
        ("transformers_trainer", ["transformers", "accelerate"], "resumed from .*checkpoint-10"),
        ("ultralytics_train", ["ultralytics"], "boxes on 8 images"),
        ("webdataset_shards", ["webdataset"], "2 workers: 100 samples, 100 different"),
    ],
)
def test_an_example_of_a_framework_runs(example: str, packages: list[str], expected: str) -> None:
    for package in packages:
        pytest.importorskip(package)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [sys.executable, *(launcher if "processes" in expected else []), str(EXAMPLES / f"{example}.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=270,
    )
    assert result.returncode == 0, result.stderr
    assert re.search(expected, result.stdout), result.stdout
