"""An OSS server for tests and demonstrations, in a process of its own."""

from osstorchconnector.testing.admin import Fault, FaultRule, RecordedRequest
from osstorchconnector.testing.emulator import Connection, ConnectionArguments, Emulator, KeyPair

__all__ = ["Connection", "ConnectionArguments", "Emulator", "Fault", "FaultRule", "KeyPair", "RecordedRequest"]
