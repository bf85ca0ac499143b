"""What the presets return: TFP's transformed distribution, with a word on where to find what it does not know."""

from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd
from tensorflow_probability.python.distributions import transformed_distribution


class Flow(transformed_distribution._TransformedDistribution):
    """A `tfd.TransformedDistribution`: x = f(z) with z from `distribution` and f the `bijector`.

    log p(x) = log p₀(f⁻¹(x)) + log|det ∂f⁻¹/∂x|, in nats.

    The mean, the covariance and the entropy have closed forms where f is affine, as in `tff.flows.gaussian` without a
    context. Elsewhere `tff.inference` estimates them by draws, and the error says so.

    Arguments:
      distribution: the base, a `tfd.Distribution` of z.
      bijector: f, a `tfb.Bijector`.
      validate_args, name: see `tfd.TransformedDistribution`.

    Raises: NotImplementedError from `mean`, `stddev`, `covariance` and `entropy` where f is not affine.

    Example:

    >>> import tfp_flows as tff
    >>> tff.flows.gaussian(2, "diag").mean().numpy().tolist()
    [0.0, 0.0]
    """

    # Not of `tfd.TransformedDistribution` itself: that one is a composite tensor, in which TFP does not find the
    # weights of networks.

    def __init__(
        self,
        distribution: tfd.Distribution,
        bijector: tfb.Bijector,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        parameters = dict(locals())
        super().__init__(distribution, bijector, validate_args=validate_args, parameters=parameters, name=name)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return super()._parameter_properties(dtype, num_classes)  # TFP warns of a class that does not say so

    def _mean(self, **kwargs):
        return _or_point_to("moments", super()._mean, kwargs)

    def _stddev(self, **kwargs):
        return _or_point_to("moments", super()._stddev, kwargs)

    def _covariance(self, **kwargs):
        return _or_point_to("moments", super()._covariance, kwargs)

    def _entropy(self, **kwargs):
        return _or_point_to("entropy", super()._entropy, kwargs)


def _or_point_to(name, method, kwargs):
    try:
        return method(**kwargs)
    except NotImplementedError as error:
        raise NotImplementedError(f"{error} `tff.inference.{name}(flow)` estimates it by draws.") from error
