"""One module a detector: each takes a `Graph` and gives candidates, each with what its cure saves."""
