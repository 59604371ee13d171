"""The command `cti95598`."""

from __future__ import annotations

import logging

import typer

from node.commands.agent import agent_command
from node.commands.bans import bans_command
from node.commands.call import call_command
from node.commands.flow import flow_check
from node.commands.listen import listen_command
from node.commands.loadtest import app as loadtest_app
from node.commands.media import media_command
from node.commands.records import records_command
from node.commands.serve import serve_command
from node.commands.trunks import trunks_command
from node.logs import configure_logs

app = typer.Typer(
    name="cti95598",
    help="95598 语音平台 · The 95598 voice platform: SIP, flows, queues, agents and records.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # they may hold passwords
)
flow_app = typer.Typer(no_args_is_help=True, help="流程 · Work with IVR flows.")
flow_app.command("check")(flow_check)

app.command("serve")(serve_command)
app.command("call")(call_command)
app.command("agent")(agent_command)
app.command("records")(records_command)
app.command("trunks")(trunks_command)
app.command("bans")(bans_command)
app.command("media")(media_command)
app.command("listen")(listen_command)
app.add_typer(flow_app, name="flow")
app.add_typer(loadtest_app, name="loadtest")


def main() -> None:
    """Run the command."""
    configure_logs(None, level=logging.WARNING)  # until a command says otherwise
    app()


if __name__ == "__main__":
    main()
