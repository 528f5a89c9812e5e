"""One module for each category: its detector takes a `Graph` and gives candidates, each with what its cure saves."""
