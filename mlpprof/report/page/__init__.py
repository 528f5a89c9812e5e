"""One HTML file with everything about runs, comparisons and ladders, which needs no network: `page.write_page`.

The modules prepare the content of the sections; words and layout are in `templates/`.
"""
