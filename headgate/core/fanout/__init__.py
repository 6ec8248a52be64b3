"""From frames to sockets: sessions, feeds, catching up and flushing; the gateway's wing."""
