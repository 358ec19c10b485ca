"""What ``osst doctor`` checks, one subject per module."""
