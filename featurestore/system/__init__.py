"""What the program needs of the operating system: files, documents, printing, processes."""
