"""Sweeps measure a grid of cells, one process or a cluster of dask at a time.

`grid` lists the cells and their keys, `measure` measures one of them on a node, `run` hands out those that are not done
and keeps their files, and `cluster` connects to dask.
"""
