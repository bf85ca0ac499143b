"""What every constructor asks of its arguments, in the same words everywhere."""

import numbers


def check_positive_integers(**values):
    """Raises ValueError for the first of the named values that is not a positive integer."""
    for name, value in values.items():
        if not is_integer(value) or value < 1:
            raise ValueError(f"Expected `{name}` to be a positive integer. Received: {name}={value!r}")


def check_hidden_units(hidden_units):
    """Raises ValueError unless the widths of the hidden layers are positive integers, at least one."""
    if not hasattr(hidden_units, "__len__") or not len(hidden_units):
        raise ValueError(f"Expected `hidden_units` to hold at least one width. Received: hidden_units={hidden_units!r}")
    check_positive_integers(**{f"hidden_units[{k}]": units for k, units in enumerate(hidden_units)})


def check_context_size(context_size):
    """Raises ValueError unless the context size is an integer of at least zero."""
    if not is_integer(context_size) or context_size < 0:
        raise ValueError(
            f"Expected `context_size` to be an integer, 0 for no context. Received: context_size={context_size!r}"
        )


def is_integer(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
