"""`tfp-flows fit`: trains a model of a table; killed, it goes on with `--resume`."""

import hashlib
import json
import pathlib
import shutil
import sys

import click
import keras
import numpy as np

from tfp_flows._files import written_whole
from tfp_flows.command_line.files import FORCE, PATH, check_free, read_table, split
from tfp_flows.report.view import view_of
from tfp_flows.tables import TableModel


@click.command()
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="The .keras file to write.")
@click.option("--flow", default="neural_spline_autoregressive", show_default=True, help="A function of tff.flows.")
@click.option("--layers", type=click.IntRange(1), help="How many layers the flow has; without it the flow's default.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data, at most; without it 10 to 200.")
@click.option("--batch-size", type=click.IntRange(1), help="Rows per step; without it 256, or 1024 of large tables.")
@click.option("--context", default="", help="Columns that are given and not modelled: a,b.")
@click.option("--kind", multiple=True, metavar="COLUMN=KIND", help="What a column is, where it is not to be found.")
@click.option("--bounds", multiple=True, metavar="COLUMN=LOW:HIGH", help="Bounds of a column; either may be left out.")
@click.option(
    "--missing",
    type=click.Choice(["raise", "drop", "model"]),
    default="raise",
    show_default=True,
    help="Missing values: an error, rows to leave out, or values with a probability.",
)
@click.option(
    "--test", type=click.FloatRange(0, 1), default=0.0, help="Share of rows to hold out and score at the end."
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of all that is random.")
@click.option("--resume", is_flag=True, help="Go on with a fit that was killed.")
@FORCE
def fit(data, out, resume, force, **settings):
    """Fit the density of the rows of a table.

    What each column is is found from its values: `tfp-flows info` shows it. A tenth of the rows tells when to stop.
    The training curve is written beside the model, for the report.

    \b
    tfp-flows fit diamonds.csv --out diamonds.keras --test 0.2
    tfp-flows fit storms.csv --out storms.keras --context year,month \\
        --kind hour=periodic --bounds hour=0:24 --missing model --epochs 50

    Killed at any moment, it leaves no half-written model; the same command with --resume goes on from the last finished
    epoch.
    """
    check_free(out, force or resume, ".keras")
    backup = out.with_name(f"{out.name}.backup")
    frame = read_table(data)
    settings["data"] = hashlib.sha256(data.read_bytes()).hexdigest()
    _check(backup, settings, resume, force)
    keras.utils.set_random_seed(settings["seed"])
    train, test = split(frame, settings["test"], settings["seed"])
    model = TableModel.from_data(
        frame,  # of all rows, so that no held-out row has a value that the model calls impossible
        flow=settings["flow"],
        context_columns=[name.strip() for name in settings["context"].split(",") if name.strip()],
        kinds=dict(_pair(word, "--kind") for word in settings["kind"]),
        bounds={name: _bounds(word) for name, word in (_pair(word, "--bounds") for word in settings["bounds"])},
        missing=settings["missing"],
        seed=settings["seed"],
        **({"num_layers": settings["layers"]} if settings["layers"] else {}),
    )
    if not resume:
        _make(backup, settings)
    progress = _Progress(backup / "history.json")
    try:
        model.fit(
            train,
            epochs=settings["epochs"],
            batch_size=settings["batch_size"],
            seed=settings["seed"],
            verbose=0,
            callbacks=[
                keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=5),
                keras.callbacks.EarlyStopping(patience=15, restore_best_weights=True),
                # Killed while it writes a backup, it leaves an unreadable file: hence a second, older one.
                keras.callbacks.BackupAndRestore(backup / "weights", double_checkpoint=True, delete_checkpoint=False),
                progress,
            ],
        )
    except BaseException:
        if not progress.epochs:  # there is nothing to go on with
            shutil.rmtree(backup, ignore_errors=True)
        raise
    with written_whole(history_path(out)) as new:
        new.write_text(json.dumps(progress.history), encoding="utf-8")
    with written_whole(out) as new:
        model.save(new)
    shutil.rmtree(backup)
    click.echo(f"{out}: {len(train)} rows, {progress.epochs} epochs")
    if len(test):
        rows = view_of(model).rows(test)
        click.echo(f"{len(rows)} held-out rows: {mean_and_error(view_of(model).log_prob(rows))}")


def history_path(model_path):
    """Where the training curve of a model lies."""
    return model_path.with_suffix(".history.json")


def mean_and_error(log_prob):
    """The mean log-likelihood in words."""
    finite = log_prob[np.isfinite(log_prob)]
    if not len(finite):
        return "no row has a density"
    words = f"log-likelihood {finite.mean():.4f} ± {finite.std() / np.sqrt(len(finite)):.4f} nats per row"
    return words if len(finite) == len(log_prob) else f"{words}, {len(log_prob) - len(finite)} rows without a density"


def _check(backup, settings, resume, force):
    """Checks that there is a backup of the same fit to go on with, or none that should not be lost.

    Raises: click.ClickException where it is otherwise.
    """
    if resume:
        if not _note(backup).is_file():
            raise click.ClickException(f"There is no fit to go on with: {backup} is not there.")
        before = json.loads(_note(backup).read_text(encoding="utf-8"))
        told = json.loads(json.dumps(settings))
        changed = [name for name in told if told[name] != before.get(name)]
        if changed:
            words = ", ".join("the data" if name == "data" else f"--{name.replace('_', '-')}" for name in changed)
            raise click.ClickException(f"--resume goes on with the same data and options; changed: {words}.")
    elif backup.exists() and not force:
        raise click.ClickException(f"{backup} is of a fit that was killed; --resume goes on, --force starts again.")


def _make(backup, settings):
    """Makes the folder of the backup, with a note of what is fitted."""
    if backup.exists():
        shutil.rmtree(backup)
    with written_whole(backup) as new:
        new.mkdir()
        _note(new).write_text(json.dumps(settings), encoding="utf-8")


def _note(backup):
    return backup / "settings.json"


def _pair(word, option):
    """(column, what is said of it) of COLUMN=WHAT."""
    name, found, what = word.rpartition("=")
    if not found:
        raise click.ClickException(f"Expected {option} as COLUMN=..., Received: {word}")
    return name, what


def _bounds(word):
    """(low, high) of LOW:HIGH, None for an end that is left out."""
    ends = word.split(":")
    try:
        low, high = (float(end) if end.strip() else None for end in ends)
    except ValueError:
        raise click.ClickException(f"Expected --bounds as COLUMN=LOW:HIGH. Received: {word}") from None
    return low, high


class _Progress(keras.callbacks.Callback):
    """Epochs on the standard error, a bar for people and lines for files; and the training curve on disk.

    Arguments:
      path: of the curve; one that is there is continued.
    """

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.path = path
        self.history = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.bar = None

    @property
    def epochs(self):
        """How many epochs there have been."""
        return len(self.history.get("loss", ()))

    def on_train_begin(self, logs=None):
        if sys.stderr.isatty():
            self.bar = click.progressbar(
                length=self.params["epochs"], label="epochs", show_pos=True, item_show_func=str, file=sys.stderr
            )
            self.bar.render_progress()

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            # A backup may be one epoch behind.
            self.history[name] = [*self.history.get(name, [])[:epoch], float(value)]
        with written_whole(self.path) as new:
            new.write_text(json.dumps(self.history), encoding="utf-8")
        words = f"loss {logs['loss']:.3f}" + (f", held out {logs['val_loss']:.3f}" if "val_loss" in logs else "")
        if self.bar is not None:
            self.bar.update(epoch + 1 - self.bar.pos, words)
        else:
            click.echo(f"epoch {epoch + 1} of {self.params['epochs']}: {words}", err=True)

    def on_train_end(self, logs=None):
        if self.bar is not None:
            self.bar.render_finish()
