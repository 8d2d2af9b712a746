"""The commands of stage 2 that learn from a feature file: heads, what suits it, and which images to look at."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from heads import choices
from heads.console import examined, options, stage_1, terminal, text
from heads.console.app import command
from heads.console.options import (
    JUDGING,
    MODES,
    SEARCH,
    FileOrDir,
    GroupNearDuplicates,
    HeadDir,
    Json,
    MaxMemory,
    Novelty,
    Page,
    Plain,
    Quiet,
    Settings,
    Threshold,
    option,
)
from heads.kinds.design import KINDS, RECIPES

__all__ = ["stage_1"]  # whose commands stand before these

Kind = Annotated[
    Literal[*KINDS, *RECIPES],  # type: ignore[valid-type]
    option(f"Kind: {', '.join(KINDS)}; or recipe: {', '.join(RECIPES)}.", metavar="KIND|RECIPE"),
]
Features = Annotated[str | None, option("Taps, or backbones of the folder, to fit as one.", metavar="A+B")]


@command()
def fit_head(
    path: FileOrDir,
    out: Annotated[Path, option("Folder for the fitted head.")],
    head: Kind = "logreg",
    features: Features = None,
    settings: Settings = None,
    plain: Plain = False,
    max_memory: MaxMemory = None,
    group_near_duplicates: GroupNearDuplicates = None,
    threshold: Threshold = None,
    novelty: Novelty = False,
    seed: Annotated[int, option("Of everything random in the fit.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit one head on the training rows of a feature file. It takes seconds."""
    from heads.fit import fit_head as run

    fitted = run(
        path, head, params=settings or [], out=out, tap=features, seed=seed, views=not plain, max_memory=max_memory,
        group_near_duplicates=group_near_duplicates, threshold=threshold, novelty=novelty,
        note=None if quiet or as_json else terminal.note,
    )  # fmt: skip
    terminal.show(fitted.to_dict(), as_json, quiet, text.fit)


@command()
def sweep(
    path: FileOrDir,
    out: Annotated[Path, option("Folder for the trials and the winner; a killed sweep goes on there.")],
    preset: Annotated[choices.Preset, option("Search space.", group=SEARCH)] = "standard",
    space: Annotated[
        Path | None, option("Search space, instead of a preset.", metavar="FILE.toml", group=SEARCH)
    ] = None,
    features: Annotated[
        str | None, option("Taps to fit as one; by default each tap by itself.", metavar="A+B", group=SEARCH)
    ] = None,
    plain: Plain = False,
    sampler: Annotated[
        choices.Sampler | None, option("Look for good heads, instead of judging all.", group=SEARCH)
    ] = None,
    trials: Annotated[int | None, option("Heads for the sampler to try on each tap: 100.", group=SEARCH)] = None,
    metric: Annotated[
        choices.Metric | None,
        option("What the heads are ranked by: accuracy, average precision of labels, r2 of numbers.", group=JUDGING),
    ] = None,
    cv: Annotated[
        int | None,
        option("Folds of train and validation rows; 0: the split. 5 below 1,000 validation rows.", group=JUDGING),
    ] = None,
    ensemble: Annotated[
        int,
        option("Take the K best heads together: the mean of their probabilities.", metavar="K", min=1, group=JUDGING),
    ] = 1,
    smallest: Annotated[
        bool, option("Take the smallest head within one standard error of the best.", "--smallest", group=JUDGING)
    ] = False,
    exhaustive: Annotated[
        bool,
        option("Judge all heads on all rows; of 10,000 and more, a part judges first.", "--exhaustive", group=JUDGING),
    ] = False,
    budget: Annotated[
        float | None, option("Begin no head after: 60s, 5m, 1h.", metavar="TIME", parser=options.seconds)
    ] = None,
    max_memory: MaxMemory = None,
    group_near_duplicates: GroupNearDuplicates = None,
    threshold: Threshold = None,
    novelty: Novelty = False,
    track: Annotated[
        list[str] | None, option("tensorboard:FOLDER, mlflow:sqlite:///FILE; repeatable.", metavar="ADDRESS")
    ] = None,
    seed: Annotated[int, option("Of everything random in the sweep.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge a hundred heads on a feature file, and keep the best. It is refitted, and measured on the test rows."""
    from heads.search.sweep import sweep as run

    loud = not (quiet or as_json)
    found = run(
        path, out, preset=preset, space=space, tap=features, cv=cv, metric=metric, budget=budget,
        max_memory=max_memory, views=not plain, sampler=sampler, trials=trials, trackers=track or (),
        ensemble=ensemble, smallest=smallest, exhaustive=exhaustive, seed=seed, progress=loud,
        group_near_duplicates=group_near_duplicates, threshold=threshold, novelty=novelty,
        note=terminal.note if loud else None,
    )  # fmt: skip
    terminal.show(found, as_json, quiet, text.sweep)


@command()
def adapt(
    head_dir: HeadDir,
    path: Annotated[str | None, typer.Argument(metavar="[FILE_OR_DIR]", help="Features of the other place.")] = None,
    *,
    out: Annotated[Path, option("Folder for the adapted head.")],
    split: Annotated[choices.Split, option("Rows of the other place.")] = "test",
    rows: Annotated[int | None, option("Use the labels of so many, drawn at random; by default of all.", min=1)] = None,
    prior: Annotated[
        list[str] | None,
        option("Without labels: the class balance there, of each class; or estimate.", metavar="CLASS=SHARE|estimate"),
    ] = None,
    threshold: Threshold = None,
    seed: Annotated[int, option("Of the rows that are drawn.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Adapt a saved head to another place. A few labelled rows, or a class balance, shift its probabilities."""
    from heads.adapting.adapt import adapt as run

    known = prior[0] if prior and len(prior) == 1 else prior
    found = run(head_dir, path, split, rows=rows, prior=known, threshold=threshold, out=out, seed=seed)
    terminal.show(found, as_json, quiet, examined.adapted)


@command()
def probe(
    path: FileOrDir,
    seed: Annotated[int, option("Of the folds, where a file has no validation rows.")] = 0,
    max_memory: MaxMemory = None,
    group_near_duplicates: GroupNearDuplicates = None,
    as_json: Json = False,
) -> None:
    """Compare the taps of a feature file by a quick linear head. In a folder, those of all files."""
    from heads.search.probe import probe as run

    found = run(
        path, seed=seed, progress=not as_json, max_memory=max_memory, group_near_duplicates=group_near_duplicates,
        note=None if as_json else terminal.note,
    )  # fmt: skip
    terminal.show(found, as_json, False, text.probe)


@command()
def curve(
    path: FileOrDir,
    head: Kind = "logreg",
    features: Features = None,
    settings: Settings = None,
    metric: Annotated[choices.Metric, option("The metric of the curve.", group=JUDGING)] = "accuracy",
    held_out: Annotated[
        choices.HeldOut | None,
        option("Rows to measure on; by default validation rows, or folds where these are few.", group=JUDGING),
    ] = None,
    repeats: Annotated[int, option("Training sets of each size.", group=JUDGING)] = 5,
    sizes: Annotated[
        Any, option("Numbers of training images; up to 8 by default.", metavar="N,N,…", parser=options.counts)
    ] = None,
    shots: Annotated[
        Any, option("Images of each class instead: a few-shot table.", metavar="K,K,…", parser=options.counts)
    ] = None,
    ahead: Annotated[
        Any,
        option("Look ahead to so many images; by default to twice as many.", metavar="N,N,…", parser=options.counts),
    ] = None,
    views: Annotated[bool, option("Fit to the file's augmented views too.", "--views")] = False,
    page: Page = None,
    png: Annotated[Path | None, option("Write the chart as a PNG file too.", metavar="DIR")] = None,
    max_memory: MaxMemory = None,
    group_near_duplicates: GroupNearDuplicates = None,
    seed: Annotated[int, option("Of all that is drawn at random.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show how accuracy grows with training images, and what twice as many would give. Few-shot tables too."""
    from heads.forecasting.curve import curve as run

    loud = not (quiet or as_json)
    found = run(
        path, head=head, params=settings or [], tap=features, metric=metric, held_out=held_out, sizes=sizes or (),
        shots=shots or (), repeats=repeats, ahead=ahead or (), views=views, page=page, png=png, seed=seed,
        max_memory=max_memory, group_near_duplicates=group_near_duplicates, progress=loud,
        note=terminal.note if loud else None,
    )  # fmt: skip
    terminal.show(found, as_json, quiet, examined.curve)


@command()
def look_at(
    mode: Annotated[choices.LookAt, typer.Argument(metavar="MODE", help=f"{', '.join(get_args(choices.LookAt))}.")],
    path: FileOrDir,
    to: Annotated[
        str | None, option("For neighbours: whose. An image file, or the id of a row.", metavar="IMAGE|ID", group=MODES)
    ] = None,
    pool: Annotated[
        str | None,
        option(
            "For label-next: a folder of images without labels, a tar …, or features.", metavar="SOURCE", group=MODES
        ),
    ] = None,
    unlabelled_class: Annotated[
        str | None, option("For label-next: the class of rows without a label.", metavar="CLASS", group=MODES)
    ] = None,
    head: Kind = "logreg",
    settings: Settings = None,
    features: Features = None,
    count: Annotated[int, option("Images, or pairs, to name at most.")] = 24,
    out: Annotated[Path | None, option("Write the list too.", metavar="FILE.csv")] = None,
    page: Page = None,
    source: Annotated[
        str | None, option("What was extracted, for pictures: the folder, CSV, .tar, address …", metavar="SOURCE")
    ] = None,
    max_memory: MaxMemory = None,
    seed: Annotated[int, option("Of all that is drawn at random.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Name images worth a look. Alike ones, doubtful labels, outliers, and what to label next."""
    from heads.curating.look_at import look_at as run

    loud = not (quiet or as_json)
    found = run(
        mode, path, to=to, pool=pool, unlabelled_class=unlabelled_class, head=head, params=settings or [], tap=features,
        count=count, out=out, page=page, source=source, seed=seed, max_memory=max_memory, progress=loud,
    )  # fmt: skip
    terminal.show(found, as_json, quiet, examined.looks)
