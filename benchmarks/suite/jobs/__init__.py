"""What the contenders do: each job is a function of a task, in a process of its own that `job.py` runs.

A job returns how much it did: objects, bytes, keys or times. It calls `figures.start` after what is preparation.
"""

from typing import Any

#: A job and what it needs, as JSON: the connector, its connection, names and sizes.
Task = dict[str, Any]
