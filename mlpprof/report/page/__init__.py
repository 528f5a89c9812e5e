"""One HTML file that tells everything about runs, comparisons and ladders, without a network: `write.write_page`.

The modules compute what the sections show; words and layout are in `templates/`.
"""
