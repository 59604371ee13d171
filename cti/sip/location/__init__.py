"""Where requests go: RFC 3263 and the outbound proxy."""
