"""What is on disk: the feature file, the journal of a run, the lock of a folder, copies of remote files."""
