"""Measurements of this package: the suite beside its peers, and a script for each further question."""
