"""The data card of a mixture, as HTML and Markdown."""
