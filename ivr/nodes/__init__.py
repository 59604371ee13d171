"""The kinds of nodes, one a file."""

from __future__ import annotations

from ivr.model import Node
from ivr.nodes.branch import BranchNode
from ivr.nodes.collect import CollectNode
from ivr.nodes.hangup import HangupNode
from ivr.nodes.menu import MenuNode
from ivr.nodes.play import PlayNode
from ivr.nodes.query import QueryNode
from ivr.nodes.queue import QueueNode
from ivr.nodes.rate import RateNode
from ivr.nodes.say import SayNode
from ivr.nodes.set import SetNode

KINDS: dict[str, type[Node]] = {
    "branch": BranchNode,
    "collect": CollectNode,
    "hangup": HangupNode,
    "menu": MenuNode,
    "play": PlayNode,
    "query": QueryNode,
    "queue": QueueNode,
    "rate": RateNode,
    "say": SayNode,
    "set": SetNode,
}
