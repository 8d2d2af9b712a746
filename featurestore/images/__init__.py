"""From bytes to pixels: decode, orient, resize, augment."""
