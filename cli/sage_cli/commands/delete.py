"""`sage delete`: videos and embeddings, by id."""

import click
from rich.text import Text

from sage_cli.client import Client
from sage_cli.commands.options import session_options
from sage_cli.errors import Trouble
from sage_cli.session import Session
from sage_cli.targets import FileTarget, VideoTarget, read_target


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@session_options
def delete(session: Session, ids: tuple[str, ...]) -> None:
    """Delete videos and embeddings by their ids.

    Embeddings outlive the video that they were made from, and can still be compared.
    """

    async def run(client: Client) -> None:
        # All are read before the first is deleted: a slip in the last one should not cost the others.
        targets = [read_target(text) for text in ids]
        for text, target in zip(ids, targets, strict=True):
            if isinstance(target, FileTarget):
                raise Trouble(f"{text} is a file, not an id.", next_step="`sage delete` never touches files.")
        for text, target in zip(ids, targets, strict=True):
            if isinstance(target, VideoTarget):
                await client.delete_video(target.video_id)
            elif not isinstance(target, FileTarget):
                await client.delete_embedding(target.embedding_id)
            if not session.quiet:
                session.terminal.say(Text(f"{text} is deleted"))

    session.run(run)
