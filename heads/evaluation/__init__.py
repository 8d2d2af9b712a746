"""How good a head is on rows that it was not fitted on."""
