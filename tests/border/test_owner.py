"""Each process has its own values, and knows which of them it made."""

import multiprocessing
import os
import pickle
from collections.abc import Callable

from osstorchconnector.process.owner import Owner, PerProcess
from osstorchconnector.process.starting import is_starting_process


def in_a_fork(question: Callable[[], bool]) -> bool:
    """Return the answer of a forked child."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if question() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_is_not_the_owner() -> None:
    owner = Owner()
    assert owner.is_this_process()
    assert not in_a_fork(owner.is_this_process)
    assert in_a_fork(lambda: Owner().is_this_process())
    assert pickle.loads(pickle.dumps(owner)).is_this_process()


def test_each_process_makes_its_own_value_once() -> None:
    values: PerProcess[int] = PerProcess()
    assert [values.get(os.getpid) for _ in range(2)] == [os.getpid()] * 2
    parent = os.getpid()
    assert in_a_fork(lambda: values.get(os.getpid) == os.getpid() and values.by_pid[parent] == parent)
    assert values.by_pid == {parent: parent}


class Pickled:
    """Its pickle says whether it starts a process."""

    def __getstate__(self) -> dict[str, bool]:
        return {"started": is_starting_process()}


def exit_with(pickled: Pickled) -> None:
    os._exit(7 if pickled.__dict__["started"] else 8)


def test_a_pickle_knows_whether_it_starts_a_process() -> None:
    assert not is_starting_process()
    assert pickle.loads(pickle.dumps(Pickled())).__dict__ == {"started": False}
    process = multiprocessing.get_context("spawn").Process(target=exit_with, args=(Pickled(),))
    process.start()
    process.join()
    assert process.exitcode == 7
