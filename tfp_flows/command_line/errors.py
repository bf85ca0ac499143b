"""Errors as one line without a stack trace."""

import sys

import click
import tensorflow as tf

# Exit codes.
USER, FAULT, INTERRUPTED = 2, 1, 130


class Group(click.Group):
    """A group whose commands end with one line where something is wrong.

    Exit codes: 2 for what a user can mend, 1 for a fault of the program, 130 where it was interrupted.
    """

    def main(self, args=None, *arguments, standalone_mode=True, **keywords):
        args = sys.argv[1:] if args is None else list(args)
        if not standalone_mode or "--traceback" in args:
            return super().main(args, *arguments, standalone_mode=standalone_mode, **keywords)
        try:
            code = super().main(args, *arguments, standalone_mode=False, **keywords)
        except (click.exceptions.Abort, KeyboardInterrupt):
            _end("Interrupted.", INTERRUPTED)
        except click.ClickException as error:
            _end(f"Error: {error.format_message()}", USER)
        except OSError as error:
            words = f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
            _end(f"Error: {words}", USER)
        except (ValueError, TypeError, ImportError, MemoryError, tf.errors.ResourceExhaustedError) as error:
            _end(f"Error: {error}", USER)
        except Exception as error:
            _end(f"Error in the program, --traceback shows where: {type(error).__name__}: {error}", FAULT)
        sys.exit(code if isinstance(code, int) else 0)


def _end(words, code):
    words = " ".join(words.split())
    click.echo(words if len(words) <= 700 else words[:697] + "...", err=True)
    sys.exit(code)
