"""``oss://`` for libraries that open files with ``fsspec``."""
