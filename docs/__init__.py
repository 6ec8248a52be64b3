"""The documentation: pages in Markdown, and what builds the site from them."""
