"""How the package behaves if the input, the service or the network is wrong."""
