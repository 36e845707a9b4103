"""What the simulated city's portals publish, one module per publisher; what happened lies one level up."""
