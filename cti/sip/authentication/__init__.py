"""Digest on both sides (RFC 7616, RFC 8760)."""
