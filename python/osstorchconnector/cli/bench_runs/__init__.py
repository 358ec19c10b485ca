"""The runs of ``osst bench``: what is measured, how, and what the figures say."""
