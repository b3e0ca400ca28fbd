"""The command that shows the zoo in a browser."""

import threading
import webbrowser
from contextlib import suppress
from pathlib import Path

import click

__all__ = ["demo"]


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A folder or Hub repository to show beside the entries; may be repeated.",
)
@click.option(
    "--site",
    type=click.Path(path_type=Path),
    default=Path("site"),
    show_default=True,
    help="The built page, which `python -m web.build` in a checkout writes.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Where to listen; by default any."
)
@click.option("--open/--no-open", "opens", default=True, help="Open the page in a browser.")
def demo(models: tuple[str, ...], site: Path, port: int, opens: bool) -> None:
    """Serve the page that runs models in a browser.

    Only this machine can open it. Ctrl-C ends it.
    """
    from lvmzoo.demo import address_of, demo_server

    with demo_server(site, models, port) as server:
        address = address_of(server)
        click.echo(f"the zoo is at {address} (Ctrl-C ends it)")
        if opens:  # in a thread, as a text browser does not return before it has got the page
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        with suppress(KeyboardInterrupt):
            server.serve_forever()
