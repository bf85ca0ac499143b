"""What copies of a bijector share, and what slices of it are."""

from __future__ import annotations

from typing import Any, TypeVar

Same = TypeVar("Same", bound="Copyable")


class Copyable:
    """Copies of a bijector that makes weights of its own, from its `parameters`.

    `bijector.copy()` and `copy.copy(bijector)` share the weights, as copies of TFP's bijectors share the variables they
    were given; `name` may differ. `copy.deepcopy` and `pickle` construct the bijector again, from its arguments,
    with its own weights of equal values.
    """

    def copy(self: Same, **overrides: Any) -> Same:
        """A bijector with the same weights; `name` alone may be another.

        Raises: ValueError for any other argument that differs: it may need other weights, orders or masks, and then the
          result would not be a copy.
        """
        for name, value in overrides.items():
            if name != "name" and not (name in self.parameters and value is self.parameters[name]):
                raise ValueError(
                    f"Expected `copy` of `{self.name}` to change its name at most, since a copy shares the weights; "
                    f"{type(self).__name__}(...) makes a new one. Received: {name}={value!r}"
                )
        name = overrides.get("name") or self.name
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._name = name
        other._parameters = self._no_dependency({**self.parameters, "name": name})
        return other

    def __copy__(self):
        return self.copy()

    def __reduce__(self):
        return _made_again, (type(self), dict(self.parameters), [variable.numpy() for variable in self.variables])

    @property
    def _tfp_batch_slice_provenance(self):
        # TFP asks for this, and nothing else, before it would construct a slice from the arguments, with other weights.
        raise ValueError(
            f"Expected a slice along a batch shape; `{self.name}` has none (a bound context brings one, see "
            "`tff.condition`, and `tfd.BatchReshape` one of size 1). Received: a slice of a single bijector"
        )


def _made_again(cls, parameters, values):
    """An object of a class from its arguments, and then the values of its variables."""
    made = cls(**parameters)
    for variable, value in zip(made.variables, values, strict=True):
        variable.assign(value)
    return made
