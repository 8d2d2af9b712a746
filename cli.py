"""The command ``featurestore``: parse, call one function, print. Nothing heavy is imported before it is needed.

The commands that use a head stand here, those of stage 1 in :mod:`heads.console.stage_1`, and those that learn from a
feature file in :mod:`heads.commands`.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from featurestore import spec
from heads import choices, commands
from heads.console import evaluated, examined, options, stage_1, terminal, text
from heads.console.app import FAILURES_LISTED, app, command
from heads.console.options import (
    CACHE,
    TRAINING,
    VIEWS,
    BackboneWeights,
    FileOrDir,
    GroupNearDuplicates,
    HeadDir,
    Json,
    Level,
    MaxMemory,
    Quiet,
    opens_source,
    option,
)

__all__ = ["app", "commands", "main", "stage_1"]


def main() -> None:
    """Entry point."""
    terminal.run(app)


@command()
def evaluate(
    head_dir: HeadDir,
    path: FileOrDir,
    split: Annotated[choices.Split, option("Rows to measure on.")] = "test",
    level: Level = None,
    max_memory: MaxMemory = None,
    group_near_duplicates: GroupNearDuplicates = None,
    as_json: Json = False,
) -> None:
    """Measure a saved head on one split of a feature file. Each figure has its 95 % interval."""
    from heads.evaluation.evaluate import evaluate as run

    found = run(
        head_dir, path, split, level=level, max_memory=max_memory, group_near_duplicates=group_near_duplicates,
        note=None if as_json else terminal.note,
    )  # fmt: skip
    terminal.show(found, as_json, False, evaluated.evaluation)


@command()
def predict(
    head_dir: HeadDir,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE_OR_FOLDER...", help="Images; folders, tars or CSVs of them; addresses."),
    ],
    weights: BackboneWeights = None,
    top: Annotated[int | None, option("Name only so many classes, the likeliest first.", min=1)] = None,
    level: Level = None,
    abstain: Annotated[
        list[str] | None,
        option(
            "Give no class above this novelty (0.99), or below this probability (0.8); repeatable.",
            metavar="novelty=Q|probability=P",
        ),
    ] = None,
    path_column: Annotated[str | None, option("Column of a CSV that names the images.")] = None,
    out: Annotated[
        Path | None, option("Write a .csv or .json file, as the images come, and not print.", metavar="FILE")
    ] = None,
    as_csv: Annotated[bool, option("Print CSV: path, class, error, each probability.", "--csv")] = False,
    as_json: Json = False,
) -> None:
    """Classify new images with a saved head and its backbone."""
    from heads.prediction.predictor import Predictor
    from heads.prediction.writers import form_of, write_predictions

    form = form_of("csv" if as_csv else "json" if as_json else None, out)
    predictor = Predictor(head_dir, level=level, abstain=abstain or (), weights=weights)
    failures = write_predictions(
        predictor, inputs, form=form, out=out, top=top, path_column=path_column, progress=out is not None
    )
    if failures:
        raise typer.Exit(FAILURES_LISTED)


@command()
def explain(
    head_dir: HeadDir,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE_OR_FOLDER...", help="Images; folders, tars or CSVs of them; addresses."),
    ],
    out: Annotated[Path, option("Folder for the page, its numbers and a PNG file of each image.", metavar="DIR")],
    top: Annotated[int, option("Maps of so many classes, the likeliest first.", min=1)] = 2,
    weights: BackboneWeights = None,
    path_column: Annotated[str | None, option("Column of a CSV that names the images.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw which places of images speak for and against a class. Exact for linear heads on averaged maps."""
    from heads.explaining.explain import explain as run

    found = run(
        head_dir, inputs, out, top=top, weights=weights, path_column=path_column, progress=not (quiet or as_json)
    )
    terminal.show(found, as_json, quiet, examined.explanation)
    if found.failures:
        raise typer.Exit(FAILURES_LISTED)


@command()
def report(
    path: Annotated[Path, typer.Argument(metavar="RUN_OR_HEAD_DIR", help="Folder of a sweep, or of a saved head.")],
    out: Annotated[Path, option("The page to write.", metavar="FILE.html")] = Path("report.html"),
    features: Annotated[
        str | None, option("Its features; by default the sweep's, if on disk.", metavar="FILE_OR_DIR")
    ] = None,
    source: Annotated[
        str | None, option("What was extracted, for pictures: the folder, CSV, .tar, address …", metavar="SOURCE")
    ] = None,
    explain: Annotated[
        bool, option("Draw why beside each mistake that is shown; builds the backbone.", "--explain")
    ] = False,
    png: Annotated[Path | None, option("Write each chart as a PNG file too.", metavar="DIR")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a page on a sweep, a fine-tuned model or a head. Scores, charts, mistakes, doubtful labels, origin."""
    from heads.reporting.report import report as run

    found = run(path, out, features=features, source=source, explain=explain, png=png, progress=not (quiet or as_json))
    terminal.show(found, as_json, quiet, text.report)


@command()
@opens_source
def finetune(
    head_dir: HeadDir,
    source: Any,
    out: Annotated[Path, option("Folder for the run and its result; a killed run goes on there.")],
    unfreeze: Annotated[
        str,
        option(
            "Train from this layer on; or the last N with weights.",
            metavar="LAYER|last-block|N|all",
            group=TRAINING,
        ),
    ] = "last-block",
    epochs: Annotated[int, option("Most passes over the training images.", group=TRAINING)] = 10,
    learning_rate: Annotated[float, option("Of the head; the backbone's is a tenth of it.", group=TRAINING)] = 3e-4,
    patience: Annotated[int, option("Epochs without improvement before training stops.", group=TRAINING)] = 3,
    batch_size: Annotated[int, option("Images in a step.", group=TRAINING)] = 32,
    augment: Annotated[spec.Augment | None, option("Train on views too; see `extract --augment`.", group=VIEWS)] = None,
    views: Annotated[int, option("Views of each training image, with --augment.", group=VIEWS)] = 4,
    no_cache: Annotated[bool, option("Run the frozen layers in each epoch.", "--no-cache", group=CACHE)] = False,
    store: Annotated[Path | None, option("Folder for the cache; by default one in --out.", group=CACHE)] = None,
    dtype: Annotated[spec.Dtype, option("Stored type of the cache.", group=CACHE)] = "float16",
    max_memory: Annotated[
        int | None, option("Refuse to train with more than: 500MB, 4GB.", metavar="SIZE", parser=options.size)
    ] = None,
    weights: BackboneWeights = None,
    seed: Annotated[int, option("Of everything random in the training.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the top of a backbone together with a saved head. Both are compared with the head alone."""
    from heads.finetuning.finetune import finetune as run

    shown = not (quiet or as_json)
    found = run(
        head_dir, source, out, unfreeze=unfreeze, epochs=epochs, learning_rate=learning_rate, patience=patience,
        batch_size=batch_size, augment=augment, views=views, cache=not no_cache, dtype=dtype, seed=seed, store=store,
        weights=weights, max_memory=max_memory, progress=shown, note=terminal.note if shown else None,
    )  # fmt: skip
    terminal.show(found, as_json, quiet, text.finetune)
    if found.failures:
        raise typer.Exit(FAILURES_LISTED)


@command()
def export(
    source: Annotated[Path, typer.Argument(metavar="HEAD_DIR_OR_FILE", help="A saved head; or a feature file.")],
    form: Annotated[
        choices.Format,
        option("Of a head: keras to openvino; of a feature file: npz to h5ad.", "--format"),
    ],
    out: Annotated[Path | None, option("File to write; by default called after what it is made of.")] = None,
    weights: BackboneWeights = None,
    check: Annotated[Path | None, option("Images to compare the model on.", metavar="FOLDER")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write backbone and head as one model, or a file's features. A model is run again and compared."""
    from heads.exporting.export import export as run

    terminal.show(run(source, form, out, weights=weights, check=check), as_json, quiet, text.exported)


@command()
def demo(
    data: Annotated[choices.DemoData, option("Images to take; flowers are a download.")] = "digits",
    out: Annotated[Path, option("Folder for the feature file and the heads.")] = Path("featurestore-demo"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do the whole job on images that are there already. Features are extracted once, then each kind is fitted."""
    from heads.demo import run_demo

    terminal.show(run_demo(out, data, progress=not (quiet or as_json)), as_json, quiet, text.demo)


if __name__ == "__main__":
    main()
