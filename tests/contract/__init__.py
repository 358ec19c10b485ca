"""Other people's clients against the emulator."""

import warnings

with warnings.catch_warnings():
    # Said of their source code where an installation has not compiled it yet, by older Python and by newer.
    for category in (DeprecationWarning, SyntaxWarning):
        warnings.filterwarnings("ignore", ".*invalid escape sequence", category)
    import alibabacloud_oss_v2  # noqa: F401
    import oss2  # noqa: F401
    import ossfs  # noqa: F401
