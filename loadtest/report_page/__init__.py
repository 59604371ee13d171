"""A report as a page that needs nothing but a browser."""
