"""An OSS server for tests and demonstrations, in a process of its own."""

from osstorchconnector.testing.admin import Fault, FaultRule, RecordedRequest
from osstorchconnector.testing.emulator import Connection, Emulator, KeyPair

__all__ = ["Connection", "Emulator", "Fault", "FaultRule", "KeyPair", "RecordedRequest"]
