"""The production services of a whole installation in one process, in virtual time: what its nodes tell each other."""
