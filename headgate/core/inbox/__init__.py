"""A user's side: from the outputs of topics to all that concerns one user, in one shard."""
