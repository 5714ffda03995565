"""What is trained around a detector: forward and losses, one module per published training."""
