"""Links between gateways or ingests and dispatchers: in memory and over WebSocket; know no message's meaning."""
