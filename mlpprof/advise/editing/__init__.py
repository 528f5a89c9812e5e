"""Parts of cures that several categories share: the source as a tree, edits of it, and what a recording shows of it."""
