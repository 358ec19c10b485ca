"""Conditions of a network or a service that the emulator imitates by fault rules."""

from typing import Any, Final

# Each rule of a profile, and why it has its numbers.
PROFILES: Final[dict[str, tuple[str, list[dict[str, Any]]]]] = {
    # The time to the first byte that OSS needs within a region, by its public measurements.
    "35ms": ("35 ms to the first byte of each answer", [{"delay": 0.035}]),
    # A burst of a training job beyond its account's quota: one request in five is refused.
    "throttled": (
        "one request in five is refused with 503 TotalQpsLimitExceeded",
        [{"probability": 0.2, "seed": 1, "throttle": 0.1}],
    ),
    # Each of them alone is rare in practice; together they meet every kind of retry within some hundred requests.
    "flaky": (
        "some answers are lost, broken off, damaged or refused",
        [
            {"probability": 0.02, "seed": 1, "error": "InternalError"},
            {"probability": 0.02, "seed": 2, "reset": "before"},
            {"operation": "GetObject", "probability": 0.02, "seed": 3, "reset": "middle"},
            {"operation": "GetObject", "probability": 0.01, "seed": 4, "flip": "middle"},
            {"probability": 0.01, "seed": 5, "lose_reply": True},
        ],
    ),
    # Between continents: the round trip, its spread, and the rate of one connection.
    "wan": (
        "about 180 ms to the first byte, 2 MB/s for each request",
        [{"delay": {"lognormal": [0.18, 0.2]}, "bandwidth": 2_000_000}],
    ),
}


def rules(name: str) -> list[dict[str, Any]]:
    """Return the fault rules of a profile."""
    return PROFILES[name][1]
