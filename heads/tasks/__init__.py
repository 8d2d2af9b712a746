"""What is asked of an image: one class of several, any number of labels, or a number. One file for each task."""
