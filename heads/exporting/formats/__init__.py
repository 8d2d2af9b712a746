"""Formats of a model in a file: one module for each, and their registry."""
