"""One HTML file with everything about runs, comparisons and ladders, which needs no network: `page.page_html`.

The modules prepare the content of the sections; words and layout are in `templates/`.
"""
