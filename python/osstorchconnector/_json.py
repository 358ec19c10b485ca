"""JSON that others wrote."""

import json
from typing import Any


def read_json(text: str | bytes | bytearray) -> Any:  # noqa: ANN401 - any JSON value
    """Parse JSON.

    Raises:
        ValueError: It is not JSON, or nested deeper than the interpreter can parse. The error does not hold the text.
    """
    try:
        return json.loads(text)
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = str(error)
    finally:
        # It may be a file with an access key, and some tools show the locals of frames.
        del text
    raise ValueError(problem)
