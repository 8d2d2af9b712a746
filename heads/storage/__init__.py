"""Heads on disk: the folder of a saved head, and the record of the rows that it has seen."""
