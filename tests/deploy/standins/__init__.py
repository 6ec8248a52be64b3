"""Images under the names that docker-compose.yml uses, for engines that reach no image registry."""
