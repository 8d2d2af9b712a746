"""Models and features in formats of other tools."""
