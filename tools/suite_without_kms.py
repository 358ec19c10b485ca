"""A plugin of pytest for the suite of ``oss2``: tests that draw a bucket never draw one that needs the KMS."""

import random
from collections.abc import Sequence


def pytest_configure() -> None:
    """Replace ``random.choice``."""
    choose = random.choice

    def without_kms(options: Sequence[object]) -> object:
        providers = (type(getattr(option, "crypto_provider", None)).__name__ for option in options)
        return choose([option for option, name in zip(options, providers, strict=True) if name != "AliKMSProvider"])

    random.choice = without_kms  # type: ignore[assignment]
