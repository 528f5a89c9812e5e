"""Reports as files: the end of the file name chooses the format."""
