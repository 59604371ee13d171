"""IVR: flows as YAML graphs, their checker and interpreter, prompts and spoken numbers.

Flows see the caller only through `cti.call.Call`, queues only through `ivr.queueing.QueueGateway`.
"""
