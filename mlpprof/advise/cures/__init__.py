"""Cures as edits of the user's source code: one file for each category, with the category's name.

What several of them share is in `advise.editing`.
"""
