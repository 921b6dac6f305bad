"""The `sage` command: a diff for film."""

import os

# The gRPC library logs to stderr in terms that users cannot act on; this command reports errors itself. The variable is
# read when the library is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import click

from sage_cli.api.channel import DEFAULT_ADDRESS
from sage_cli.commands.diff import compare, diff
from sage_cli.commands.embeddings import cancel, embed, list_embeddings, models, watch
from sage_cli.commands.key import key
from sage_cli.commands.open_uploads import uploads
from sage_cli.commands.options import OrderedGroup
from sage_cli.commands.videos import delete, play, upload, video, videos


@click.group(cls=OrderedGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--address",
    envvar="SAGE_ADDRESS",
    default=DEFAULT_ADDRESS,
    metavar="HOST:PORT",
    show_envvar=True,
    show_default=True,
    help="Address of SAGE; use https://HOST for TLS.",
)
@click.version_option(package_name="sage-diff", prog_name="sage")
@click.pass_context
def main(context: click.Context, address: str) -> None:
    """Find where two cuts of a film differ.

    `sage diff OLD NEW` does everything. The other commands run the individual steps.

    If the server requires sign-in, set SAGE_TOKEN to a token, or SAGE_TOKEN_FILE to a file that contains one. Set
    SAGE_CA_FILE to the certificates of a private CA.
    """
    context.obj = address


for command in (
    diff,
    compare,
    upload,
    uploads,
    videos,
    video,
    play,
    embed,
    list_embeddings,
    watch,
    cancel,
    models,
    key,
    delete,
):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="sage")
