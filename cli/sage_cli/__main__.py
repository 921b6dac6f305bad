"""The `sage` command: a diff for film."""

import os

# The library writes its own log to stderr in words that are not for users; errors reach them through this command's.
# It reads the variable when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import click

from sage_cli.channel import DEFAULT_ADDRESS
from sage_cli.commands.delete import delete
from sage_cli.commands.diff import compare, diff
from sage_cli.commands.embeddings import cancel, embed, list_embeddings, models, watch
from sage_cli.commands.key import key
from sage_cli.commands.options import OrderedGroup
from sage_cli.commands.videos import play, upload, videos


@click.group(cls=OrderedGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--address",
    envvar="SAGE_ADDRESS",
    default=DEFAULT_ADDRESS,
    metavar="HOST:PORT",
    show_envvar=True,
    show_default=True,
    help="Where SAGE is; https://HOST for TLS.",
)
@click.version_option(package_name="sage-diff", prog_name="sage")
@click.pass_context
def main(context: click.Context, address: str) -> None:
    """Find where two cuts of a film differ.

    `sage diff OLD NEW` does everything. The other commands do its steps one by one.

    Where SAGE asks for sign-in, SAGE_TOKEN has the token, or SAGE_TOKEN_FILE names a file that has it. SAGE_CA_FILE
    names the certificates of a CA of your own.
    """
    context.obj = address


for command in (diff, compare, upload, videos, play, embed, watch, cancel, list_embeddings, models, key, delete):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="sage")
