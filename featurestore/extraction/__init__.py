"""The extraction loop: find out what is missing, run the backbones on it, publish."""
