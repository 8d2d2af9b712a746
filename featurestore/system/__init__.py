"""What the program needs of the machine: files, locks, JSON, printing, processes, Keras."""
