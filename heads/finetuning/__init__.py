"""Train the top of a backbone together with a head."""
