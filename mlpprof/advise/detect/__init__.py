"""One module for each category: its detector takes a `Graph` and gives candidates, each with what its cure saves.

`advise.loops` decides of which category a loop is. Findings around the step are made in `advise.outside`, those about
products that do not reach BLAS in `advise.off_blas`, and those that nothing else explains in `advise.expensive`.
"""
