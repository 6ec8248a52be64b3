"""What a release needs besides the code: one version everywhere, and the list of what is in it."""
