"""Where samples come from: one file for each format of a data set."""
