"""The stages of a save, in order: those of every rank, and those of the coordinator while the others wait."""

RANK_STAGES = [
    "prepare_local_plan",
    "after prepare_local_plan",
    "write_data",
    "first file",
    "within a file",
    "end of a file",
    "after a file",
    "after write_data",
]
COORDINATOR_STAGES = [
    "prepare_global_plan",
    "after prepare_global_plan",
    "finish",
    "old metadata",
    "checksums",
    "metadata",
    "deleting",
    "after finish",
]
