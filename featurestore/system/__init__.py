"""What the program needs of the operating system: files, documents, a terminal, other processes."""
