"""How good a head becomes with more labelled images: learning curves, and what twice as many would give."""
