"""Whether a pickle starts a process, and may share what belongs to the processes of this program."""


def is_starting_process() -> bool:
    """Return whether ``multiprocessing`` is starting a process by spawn or forkserver, and pickles its data for that.

    That pickle goes through a pipe to a process of the same program, and ends in no file.
    """
    from multiprocessing.context import get_spawning_popen  # noqa: PLC0415 - it takes 10 ms to import

    return get_spawning_popen() is not None
