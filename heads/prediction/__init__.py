"""Classify new images: the backbone and the head together."""
