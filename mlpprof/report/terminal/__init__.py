"""Reports in the terminal, one module for each command."""
