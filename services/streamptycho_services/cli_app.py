"""The application that the modules with commands add to."""

import typer

app = typer.Typer(
    name="streamptycho",
    help="Live ptychography: the picture forms while the scan runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Try [bold]streamptycho demo[/bold] first: no hardware, nothing to configure.",
)
