"""The transaction machines of RFC 3261 section 17, without sockets and clocks."""
