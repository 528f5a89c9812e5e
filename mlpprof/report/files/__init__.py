"""Results as files: the end of the file's name, or --format, selects the format."""
