"""The gateway: owns the clients' sockets; knows the owners of topics only by its directory, and no log at all."""
