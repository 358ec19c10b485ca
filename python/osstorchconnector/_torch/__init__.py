"""The only place that uses torch's private names, so that a new torch can break nothing else.

Each module lists its names with the versions of torch that have them; the oldest supported one is 2.7. The two modules
are separate because importing :mod:`torch.distributed.checkpoint` takes a second. ``tools/check_layers.py`` finds
private names of torch anywhere else.
"""
