"""What a head is: one file for each family of heads."""
