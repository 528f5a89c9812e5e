"""What the sections of the page show, computed from the records; the words and the layout are in the templates."""
