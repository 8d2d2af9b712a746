"""Reports of a sweep, a fine-tuned model or a saved head."""
