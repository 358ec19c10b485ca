"""Local files and objects by one path argument: opening, writing, transferring, and progress bars."""
