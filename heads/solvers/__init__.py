"""The arithmetic of fits: it knows arrays, and nothing of heads."""
