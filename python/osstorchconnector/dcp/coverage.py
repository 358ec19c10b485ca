"""Deprecated: the old name of :mod:`osstorchconnector.dcp.plan_check`."""

import warnings

from osstorchconnector.dcp.plan_check import check_plan as check_coverage

__all__ = ["check_coverage"]

warnings.warn(
    "osstorchconnector.dcp.coverage is deprecated; import check_plan from osstorchconnector.dcp.plan_check",
    DeprecationWarning,
    stacklevel=2,
)
