"""What the package does when something is wrong: the input, the service, or the network in between."""
