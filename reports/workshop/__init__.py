"""Studies of the workshop: whether a check judges submissions right."""
