"""What the package costs beside its peers and beside the least that the kernel allows, on the same bytes in one run."""
