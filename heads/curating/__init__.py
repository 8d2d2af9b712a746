"""Which images to look at: alike ones, doubtful labels, outliers, and what to label next."""
