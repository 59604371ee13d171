"""The registrar of RFC 3261 section 10."""
