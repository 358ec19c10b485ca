"""Whether a profiler of torch is running.

| name of torch | versions |
| --- | --- |
| ``torch.autograd.profiler._is_profiler_enabled`` | all since 2.1 |
"""

from torch.autograd import profiler

__all__ = ["is_profiling"]


def is_profiling() -> bool:
    """Return whether ranges of ``torch.profiler.record_function`` are recorded now."""
    return profiler._is_profiler_enabled  # noqa: SLF001 - the reason for this module
