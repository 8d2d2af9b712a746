"""What probabilities say of rows: outcomes, estimates with intervals, shift."""
