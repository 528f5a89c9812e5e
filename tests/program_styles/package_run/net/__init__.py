"""A package with relative imports, whose main module is run: python -m net.main."""
