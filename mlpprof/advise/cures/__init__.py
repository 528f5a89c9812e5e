"""Cures as edits of the user's source code: one file for each category, with the category's name.

neuron-loop and small-product have no file here: their findings say in words what to do.

What several of them share is in `advise.editing`.
"""
