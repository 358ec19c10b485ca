"""What ``osst verify`` compares, one kind of thing per module."""
