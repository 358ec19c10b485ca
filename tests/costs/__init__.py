"""What the hot paths cost, in instructions and allocations."""
