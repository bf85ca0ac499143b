"""How a context reaches the bijectors inside a distribution: TFP's own route of keyword arguments by name."""

from tensorflow_probability import distributions as tfd


def context_size_of(part):
    """The length of the context vectors that a distribution or bijector takes; 0 if it takes none."""
    return max((getattr(module, "context_size", 0) for module in (part, *part.submodules)), default=0)


def context_arguments(part, context):
    """The keyword arguments that bring a context to every conditional bijector inside a distribution or bijector.

    A `tfb.Chain` hands `{name: arguments}` to its parts, a `tfb.Invert` and most distributions hand on what they get,
    and a `tfd.TransformedDistribution` takes `bijector_kwargs` and `distribution_kwargs`.
    """
    if context is None or not context_size_of(part):
        return {}
    if isinstance(part, tfd.Distribution) and hasattr(part, "bijector"):
        return _by_name(context, bijector_kwargs=part.bijector, distribution_kwargs=part.distribution)
    if hasattr(part, "bijectors"):  # Chain, Blockwise, JointMap
        return _by_name(context, **{bijector.name: bijector for bijector in part.bijectors})
    if isinstance(part, tfd.Distribution):  # Independent, Sample
        return context_arguments(part.distribution, context)
    if hasattr(part, "bijector"):  # Invert
        return context_arguments(part.bijector, context)
    return {"context": context}


def _by_name(context, **parts):
    arguments = {name: context_arguments(part, context) for name, part in parts.items()}
    return {name: value for name, value in arguments.items() if value}
