"""Cures as edits of the user's source code: one file for each category, with the category's name.

Six files are named after what they cure: `all_at_once` replaces loops (neuron-loop, sample-loop, slow-primitive),
`matrix_class`, `off_blas` and `vectorized_function` belong to slow-primitive, `one_hot` to gather and the code around
the step, and `evaluation` to that code. small-product has no file here: its findings say in words what to do.

What several of them share is in `advise.editing`.
"""
