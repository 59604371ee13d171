"""The media engine in a process of its own, under the interface of `cti.media`.

`client` is the engine as a node sees it, `server` the process that has it. Commands and events are
the methods and classes of `cti.media`, turned into messages by `wire`.
"""
