"""Take a head to another place, where classes are more or less frequent, or images look a little different."""
