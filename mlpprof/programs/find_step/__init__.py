"""Which call or loop of a program is its training step."""
