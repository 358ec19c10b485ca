"""The command line tool ``osst``: one command per module."""
