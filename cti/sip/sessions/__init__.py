"""Dialogs and the INVITE usage: offers, answers, changes, refreshes (RFC 3261 12 to 15)."""
