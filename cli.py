"""The command ``featurestore``: parse, call one function, print. Nothing heavy is imported before it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from heads.console import terminal, text
from heads.console.terminal import (
    BackboneWeights,
    Contained,
    Exclude,
    FileOrDir,
    HeadDir,
    Json,
    LabelColumn,
    Labels,
    Name,
    PathColumn,
    Quiet,
    SourceArgument,
    SplitColumn,
)  # fmt: skip

FAILURES_LISTED = 3
"""Exit code of a run that finished, and lists inputs that gave no row."""

app = typer.Typer(
    callback=terminal.options,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point."""
    terminal.run(app)


# ------------------------------------------------------------------------------------------------- stage 1


@app.command()
def extract(
    source: SourceArgument,
    store: Annotated[Path, typer.Option(help="Folder for the feature file.")],
    backbone: Annotated[
        list[str] | None, typer.Option(help="See `featurestore backbones`; or a .keras file. Repeatable.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="imagenet (default), random, or a file; for all backbones, or one each.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels; by default the backbone's.")] = None,
    tap: Annotated[
        list[str] | None, typer.Option(metavar="LAYER[=POOL]", help="Layer or glob to take; `last` by default.")
    ] = None,
    pool: Annotated[str, typer.Option(help="avg, max, avg+max, flatten or none.")] = "avg",
    preprocessing: Annotated[str | None, typer.Option(help="Of a .keras file: caffe, lite, none, tf or torch.")] = None,
    resize: Annotated[str, typer.Option(help="squash, crop or pad.")] = "squash",
    dtype: Annotated[str, typer.Option(help="Stored type: float32 or float16.")] = "float32",
    views: Annotated[int | None, typer.Option(help="Augmented versions of each training image to keep too.")] = None,
    augment: Annotated[
        str | None, typer.Option(help="flip, mild (default), cats-dogs, dog-breeds, xray or strong.")
    ] = None,
    precision: Annotated[str, typer.Option(help="To compute in: float32, bfloat16 or float16.")] = "float32",
    decoder: Annotated[
        str, typer.Option(help="pillow; or draft, which decodes large JPEGs at less than their resolution.")
    ] = "pillow",
    engine: Annotated[str, typer.Option(help="keras, openvino, or auto: the faster one.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Images per forward pass; what suits the machine by default.")
    ] = None,
    labels: Labels = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    exclude: Exclude = None,
    contained: Contained = False,
    name: Name = None,
    prune: Annotated[bool, typer.Option("--prune", help="Drop rows of images that SOURCE no longer holds.")] = False,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every file again, also those that look unchanged.")
    ] = False,
    cluster: Annotated[
        str | None, typer.Option(metavar="N|ADDRESS", help="Processes to use, or a Dask scheduler: tcp://host:8786.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a frozen backbone once over SOURCE and keep its features in a file in the store."""
    from featurestore.extraction.extract import extract_all

    opened = terminal.source(source, labels, (path_column, label_column, split_column), exclude, name, contained)
    with terminal.progress(quiet or as_json) as progress:
        results = extract_all(
            opened, store, terminal.networks(backbone or ["efficientnet_lite0"], weights or ["imagenet"]), size=size,
            pool=pool, taps=tap or ("last",), preprocessing=preprocessing, resize=resize, dtype=dtype,  # type: ignore[arg-type]
            views=views, augment=augment, precision=precision, decoder=decoder, engine=engine, batch_size=batch_size,  # type: ignore[arg-type]
            prune=prune, rehash=rehash, cluster=cluster, progress=progress, note=terminal.note if progress else None,
        )  # fmt: skip
    plain = [result.to_dict() for result in results]
    terminal.show(plain[0] if len(plain) == 1 else plain, as_json, quiet, text.extraction)
    if any(result.failures for result in results):
        raise typer.Exit(FAILURES_LISTED)


@app.command()
def inspect(
    source: SourceArgument,
    labels: Labels = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    exclude: Exclude = None,
    contained: Contained = False,
    name: Name = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page of pictures that opens from disk.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what SOURCE holds: classes, splits, image sizes, duplicates, files that cannot be read."""
    from featurestore.pages.inspection import inspect_source

    opened = terminal.source(source, labels, (path_column, label_column, split_column), exclude, name, contained)
    with terminal.progress(quiet or as_json) as progress:
        found = inspect_source(opened, progress, page=page)
    terminal.show(found, as_json, quiet, text.inspection)
    if page and not (quiet or as_json):
        terminal.show(str(page), False, False, "page: {}".format)
    if found["failures"]:
        raise typer.Exit(FAILURES_LISTED)


@app.command()
def info(path: FileOrDir, as_json: Json = False) -> None:
    """Show what a feature file holds, or each one in a folder."""
    from featurestore.store.reader import FeatureStore, find_files

    terminal.show([FeatureStore(file).summary() for file in find_files(path)], as_json, False, text.info)


@app.command()
def verify(path: FileOrDir, quiet: Quiet = False, as_json: Json = False) -> None:
    """Read a feature file, or each one in a folder, and compare its content digest."""
    from featurestore.store.reader import verify_files

    terminal.show(verify_files(path), as_json, quiet, text.verified)


@app.command()
def backbones(
    name: Annotated[str | None, typer.Argument(help="One backbone, for --taps.")] = None,
    taps: Annotated[bool, typer.Option("--taps", help="List the layers of one, with shapes and costs.")] = False,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    preprocessing: Annotated[str | None, typer.Option(help="Of a .keras file.")] = None,
    as_json: Json = False,
) -> None:
    """List the backbones, or the layers of one."""
    from featurestore.backbones import table, taps_of

    if name and taps:
        terminal.show(taps_of(name, size=size, preprocessing=preprocessing), as_json, False, text.taps)
    else:
        terminal.show(table(name), as_json, False, text.backbones)


# ------------------------------------------------------------------------------------------------- stage 2


@app.command()
def fit_head(
    path: FileOrDir,
    out: Annotated[Path, typer.Option(help="Folder for the fitted head.")],
    head: Annotated[str, typer.Option(help="logreg, linear-svm, svm, knn, dense, or the name of a recipe.")] = "logreg",
    features: Annotated[
        str | None, typer.Option(metavar="A+B", help="Taps, or backbones of the folder, to fit as one.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter; repeatable.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Leave out the file's augmented views.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random in the fit.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit one head on the training rows of a feature file, in seconds."""
    from heads.fit import fit_head as run

    fitted = run(path, head, params=settings or [], out=out, tap=features, seed=seed, views=not plain)
    terminal.show(fitted.to_dict(), as_json, quiet, text.fit)


@app.command()
def sweep(
    path: FileOrDir,
    out: Annotated[Path, typer.Option(help="Folder for the trials and the winner; a killed sweep goes on there.")],
    preset: Annotated[str, typer.Option(help="quick, standard or thorough.")] = "standard",
    space: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Search space, instead of a preset.")] = None,
    features: Annotated[
        str | None, typer.Option(metavar="A+B", help="Taps to fit as one; by default each tap by itself.")
    ] = None,
    cv: Annotated[
        int | None,
        typer.Option(help="Folds of train and validation rows; 0: the split. 5 below 1,000 validation rows."),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="accuracy, balanced_accuracy, macro_f1, roc_auc or log_loss.")
    ] = "accuracy",
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="Begin no head after: 60s, 5m, 1h.")] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Stream features larger than: 500MB, 4GB.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Leave out the file's augmented views.")] = False,
    ensemble: Annotated[
        int, typer.Option(metavar="K", min=1, help="Take the K best heads together: the mean of their probabilities.")
    ] = 1,
    smallest: Annotated[
        bool, typer.Option("--smallest", help="Take the smallest head within one standard error of the best.")
    ] = False,
    sampler: Annotated[str | None, typer.Option(help="optuna: look for good heads, instead of judging all.")] = None,
    trials: Annotated[int | None, typer.Option(help="Heads for the sampler to try on each tap: 100.")] = None,
    track: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="tensorboard:FOLDER, mlflow:sqlite:///FILE; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random in the sweep.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge a hundred heads on one feature file, and refit and keep the best."""
    from heads.search.sweep import sweep as run

    with terminal.progress(quiet or as_json) as progress:
        found = run(
            path, out, preset=preset, space=space, tap=features, cv=cv, metric=metric, budget=terminal.seconds(budget),
            max_memory=terminal.size(max_memory), views=not plain, sampler=sampler, trials=trials, trackers=track or (),
            ensemble=ensemble, smallest=smallest, seed=seed, progress=progress,
            note=None if quiet or as_json else terminal.note,
        )  # fmt: skip
    terminal.show(found.to_dict(), as_json, quiet, text.sweep)


@app.command()
def probe(
    path: FileOrDir,
    seed: Annotated[int, typer.Option(help="Of the folds, where a file has no validation rows.")] = 0,
    as_json: Json = False,
) -> None:
    """Fit a quick linear head on each tap of a feature file, or of all in a folder: what is each worth?"""
    from heads.search.probe import probe as run

    terminal.show([row.to_dict() for row in run(path, seed=seed)], as_json, False, text.probe)


@app.command()
def evaluate(
    head_dir: HeadDir,
    path: FileOrDir,
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    as_json: Json = False,
) -> None:
    """Measure a saved head on one split of a feature file, with 95 % intervals."""
    from heads.evaluation.evaluate import evaluate as run

    terminal.show(run(head_dir, path, split).to_dict(), as_json, False, text.evaluation)


@app.command()
def predict(
    head_dir: HeadDir,
    inputs: Annotated[list[Path], typer.Argument(metavar="IMAGE_OR_FOLDER...", help="Images, or folders of images.")],
    weights: BackboneWeights = None,
    top: Annotated[int | None, typer.Option(min=1, help="Name only so many classes, the likeliest first.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a .csv or .json file, as the images come, and not print.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: path, class, error, each probability.")] = False,
    as_json: Json = False,
) -> None:
    """Classify new images with a saved head and the backbone that it was fitted on."""
    from heads.prediction.writers import predict as run

    form = "csv" if as_csv else "json" if as_json else None
    with terminal.progress(out is None) as progress:
        failures = run(head_dir, inputs, form=form, out=out, top=top, weights=weights, progress=progress)
    if failures:
        raise typer.Exit(FAILURES_LISTED)


@app.command()
def report(
    path: Annotated[Path, typer.Argument(metavar="RUN_OR_HEAD_DIR", help="Folder of a sweep, or of a saved head.")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The page to write.")] = Path("report.html"),
    features: Annotated[
        str | None, typer.Option(metavar="FILE_OR_DIR", help="Its features; by default the sweep's, if on disk.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What was extracted, for pictures: the folder, CSV or .npz.")
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Write each chart as a PNG file too.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a page on a sweep or a head: scores, charts, mistakes, doubtful labels, where it all comes from."""
    from heads.reporting.report import report as run

    with terminal.progress(quiet or as_json) as progress:
        found = run(path, out, features=features, source=source, png=png, progress=progress)
    terminal.show(found, as_json, quiet, text.report)


@app.command()
def finetune(
    head_dir: HeadDir,
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="Folder for the run and its result; a killed run goes on there.")],
    unfreeze: Annotated[
        str, typer.Option(metavar="LAYER|last-block|N|all", help="Train from this layer on; or the last N with weights")
    ] = "last-block",
    epochs: Annotated[int, typer.Option(help="Most passes over the training images.")] = 10,
    learning_rate: Annotated[float, typer.Option(help="Of the head; the backbone's is a tenth of it.")] = 3e-4,
    patience: Annotated[int, typer.Option(help="Epochs without improvement before training stops.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Images in a step.")] = 32,
    augment: Annotated[str | None, typer.Option(help="Train on views too; see `extract --augment`.")] = None,
    views: Annotated[int, typer.Option(help="Views of each training image, with --augment.")] = 4,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run the frozen layers in each epoch.")] = False,
    store: Annotated[Path | None, typer.Option(help="Folder for the cache; by default one in --out.")] = None,
    dtype: Annotated[str, typer.Option(help="Stored type of the cache: float16 or float32.")] = "float16",
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Refuse to train with more than: 500MB, 4GB.")
    ] = None,
    weights: BackboneWeights = None,
    labels: Labels = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    exclude: Exclude = None,
    contained: Contained = False,
    seed: Annotated[int, typer.Option(help="Of everything random in the training.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the top of a backbone with a saved head on it, and compare both with the head alone."""
    from heads.finetuning.epochs import Recipe
    from heads.finetuning.finetune import finetune as run

    opened = terminal.source(source, labels, (path_column, label_column, split_column), exclude, None, contained)
    recipe = Recipe(
        unfreeze=unfreeze, epochs=epochs, learning_rate=learning_rate, patience=patience, batch_size=batch_size,
        augment=augment, views=views, cache=not no_cache, dtype=dtype, seed=seed,  # type: ignore[arg-type]
    )  # fmt: skip
    with terminal.progress(quiet or as_json) as progress:
        found = run(
            head_dir, opened, out, recipe, store=store, weights=weights, max_memory=terminal.size(max_memory),
            progress=progress, note=None if quiet or as_json else terminal.note,
        )  # fmt: skip
    terminal.show(found, as_json, quiet, text.finetune)
    if found["failures"]:
        raise typer.Exit(FAILURES_LISTED)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="HEAD_DIR_OR_FILE", help="A saved head; or a feature file.")],
    form: Annotated[
        str, typer.Option("--format", help="keras, saved_model, onnx, litert, openvino, npz, parquet, h5ad.")
    ],
    out: Annotated[Path | None, typer.Option(help="File to write; by default called after what it is made of.")] = None,
    weights: BackboneWeights = None,
    check: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Images to compare the model on.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write preprocessing, backbone and head as one model, run it again and compare; or write a file's features."""
    from heads.exporting.export import export as run

    result = run(source, form, out, weights=weights, check=check)
    terminal.show(result, as_json, quiet, text.exported)


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="digits, textiles or flowers (a download).")] = "digits",
    out: Annotated[Path, typer.Option(help="Folder for the feature file and the heads.")] = Path("featurestore-demo"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The main job on data that is there: extract features once, then fit and compare every kind of head."""
    from heads.demo import run_demo

    with terminal.progress(quiet or as_json) as progress:
        result = run_demo(out, data, progress=progress)
    terminal.show(result, as_json, quiet, text.demo)


if __name__ == "__main__":
    main()
