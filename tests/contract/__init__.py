"""Clients of others against the emulator."""

import warnings

with warnings.catch_warnings():
    # Python warns about their source code when it compiles it; older and newer versions use different categories.
    for category in (DeprecationWarning, SyntaxWarning):
        warnings.filterwarnings("ignore", ".*invalid escape sequence", category)
    import alibabacloud_oss_v2  # noqa: F401
    import oss2  # noqa: F401
    import ossfs  # noqa: F401
