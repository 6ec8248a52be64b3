"""What builds the site; no page."""
