"""REFER, SUBSCRIBE, NOTIFY and MESSAGE, each served by a module of its own."""
