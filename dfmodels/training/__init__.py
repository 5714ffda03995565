"""Training loop and published recipes."""
