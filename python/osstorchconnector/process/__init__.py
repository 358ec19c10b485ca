"""Facts about the process: which one it is, whether it is a DataLoader worker, and its logger."""
