"""The files of a model in a bucket, copied to this machine: once, shared by its processes, or kept in a cache."""
