"""What an emulator has if its options say nothing else."""

from typing import Final

DEFAULT_ID: Final = "emulator"
DEFAULT_SECRET: Final = "emulator-secret"  # noqa: S105 - a published key, and the server holds nothing secret
DEFAULT_PORT: Final = 9400
DEFAULT_REGION: Final = "cn-hangzhou"
