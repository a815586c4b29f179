"""`gsco data`: which data sets are known, what to beware of, whether a copy is whole, downloads."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsco.cli.options import Json, print_json

if TYPE_CHECKING:
    from gsco.datasets.card import DataCard

data_app = typer.Typer(no_args_is_help=True, help="List, check or download known data sets.")
Name = Annotated[str, typer.Argument(help="See `gsco data list`.")]


@data_app.command("list", epilog="Example: gsco data list --json")
def data_list(as_json: Json = False) -> None:
    """List the data sets that GSCo can read as they are published."""
    from gsco.datasets.card import data_cards

    cards = data_cards().values()
    if as_json:
        print_json({"version": 1, "sets": [_summary(card) for card in cards]})
        return
    from gsco import show

    show.data_cards(list(cards))


@data_app.command("show", epilog="Example: gsco data show ham10000")
def data_show(name: Name, as_json: Json = False) -> None:
    """Show a data set's card: labels, splits, licence, where to get it, known traps."""
    from gsco.datasets.card import card_named

    card = card_named(name)
    if as_json:
        print_json({"version": 1, "set": asdict(card)})
        return
    from gsco import show

    show.data_card(card)


def _summary(card: "DataCard") -> dict[str, object]:
    return {
        "name": card.name,
        "title": card.title,
        "kind": card.kind,
        "modality": card.modality,
        "tier": card.tier,
        "domain": card.domain,
        "test": card.splits["test"],
    }


@data_app.command("check", epilog="Example: gsco data check ham10000 ~/data/ham10000")
def data_check(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="Where the set stands, as it is published.")],
    images: Annotated[bool, typer.Option(help="Open every image and compare the splits.")] = True,
    as_json: Json = False,
) -> None:
    """Check a copy of a data set: counts, labels, images, overlaps; exit code 2 if one is wrong."""
    from gsco import show
    from gsco.datasets.card import card_named
    from gsco.datasets.check import check

    card = card_named(name)
    with show.progress() as told:
        found = check(card, folder, images=images, progress=told)
    if as_json:
        print_json({"version": 1, "ok": found.ok, **asdict(found)})
    else:
        show.checked(found)
    if not found.ok:
        raise typer.Exit(2)


@data_app.command("prepare", epilog="Example: gsco data prepare pneumoniamnist DIR --size 224")
def data_prepare(
    name: Name,
    folder: Annotated[Path, typer.Argument(help="Where the set shall stand.")],
    size: Annotated[
        int | None, typer.Option(help="Pixels of MedMNIST files: 28, 64, 128 or 224.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download an open data set, going on where it stopped; else say what to place where (2)."""
    from gsco import show
    from gsco.datasets.card import card_named
    from gsco.datasets.prepare import prepare

    card = card_named(name)
    with show.progress() as told:
        made = prepare(card, folder, size, told)
    if as_json:
        print_json({"version": 1, **asdict(made)})
    elif made.todo:
        for sentence in made.todo:
            typer.echo(sentence)
    else:
        typer.echo(
            f"{name} is there: {made.file or folder}. Next: `gsco data check {name} {folder}`."
        )
    if made.todo:
        raise typer.Exit(2)
