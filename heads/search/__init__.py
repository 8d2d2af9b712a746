"""Which head to take: search spaces, the designs that are judged, and the one that is refitted."""
