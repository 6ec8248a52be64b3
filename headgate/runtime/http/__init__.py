"""HTTP for all roles: the server and its bounds, the table of endpoints, the common checks, and the problem answers."""
