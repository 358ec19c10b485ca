"""Facts about the process: which process owns a value, whether one is being started, and DataLoader workers."""
