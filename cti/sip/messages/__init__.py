"""Messages and their parts, as bytes and as values (RFC 3261 7, 19, 20, 25)."""
