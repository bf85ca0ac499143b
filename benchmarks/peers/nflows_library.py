"""nflows' transforms."""

import functools

import numpy as np
import torch
from nflows import distributions, flows, nn, transforms
from of_torch import jobs_of


def jobs(make, case, mode):
    layers = make(case)
    if not case.image_shape:
        turned = [transforms.ReversePermutation(case.event_size) for _ in layers]
        layers = [part for pair in zip(layers, turned, strict=True) for part in pair][:-1]
        layers = transforms.CompositeTransform(layers)
    flow = flows.Flow(layers, distributions.StandardNormal([case.event_size]))

    def sample(count, context):
        return flow.sample(count) if context is None else flow.sample(1, context)

    return jobs_of(case, mode, flow, flow.log_prob, sample, flow.sample_and_log_prob)


def network(case):
    """An MLP with the context beside its input; nflows' own coupling networks are residual."""

    def make(inputs, outputs):
        return WithContext([inputs + case.context_size], [outputs], list(case.hidden_units), torch.relu)

    return make


class WithContext(nn.nets.MLP):
    def forward(self, x, context=None):
        return super().forward(x if context is None else torch.cat([x, context], -1))


def couplings(transform, **options):
    def make(case):
        mask = np.arange(case.event_size) >= case.event_size // 2
        return [transform(mask.astype(int), network(case), **options) for _ in range(case.num_layers)]

    return make


def autoregressions(transform, inverted=False, **options):
    def make(case):
        more = {"num_blocks": len(case.hidden_units), "use_residual_blocks": False, "random_mask": False, **options}
        layers = [transform(case.event_size, case.hidden_units[0], **more) for _ in range(case.num_layers)]
        return [transforms.InverseTransform(layer) for layer in layers] if inverted else layers

    return make


def glow(case):
    """Levels of a squeeze and four steps of ActNorm, an invertible 1x1 convolution and a coupling of channels."""
    height, width, channels = case.image_shape
    levels = transforms.MultiscaleCompositeTransform(case.num_layers, split_dim=1)
    for _ in range(case.num_layers):
        channels, height, width = 4 * channels, height // 2, width // 2
        steps = [transforms.SqueezeTransform()]
        for _ in range(4):
            mask = (np.arange(channels) >= channels // 2).astype(int)
            steps += [
                transforms.ActNorm(channels),
                transforms.OneByOneConvolution(channels),
                transforms.AffineCouplingTransform(mask, lambda i, o: Convolutions(i, o, case.hidden_units[0])),
            ]
        kept = levels.add_transform(transforms.CompositeTransform(steps), [channels, height, width])
        channels = kept[0] if kept else channels
    return levels


class Convolutions(torch.nn.Sequential):
    def __init__(self, inputs, outputs, width):
        super().__init__(
            torch.nn.Conv2d(inputs, width, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(width, width, 1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(width, outputs, 3, padding=1),
        )

    def forward(self, x, context=None):
        return super().forward(x)


SPLINE = {"num_bins": 8, "tails": "linear", "tail_bound": 3.0}
FLOWS = {
    "realnvp": couplings(transforms.AffineCouplingTransform),
    "spline coupling": couplings(transforms.PiecewiseRationalQuadraticCouplingTransform, **SPLINE),
    "spline autoregressive": autoregressions(
        transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform, **SPLINE
    ),
    "maf": autoregressions(transforms.MaskedAffineAutoregressiveTransform),
    "iaf": autoregressions(transforms.MaskedAffineAutoregressiveTransform, inverted=True),
    "glow": glow,
}
MAKERS = {flow: functools.partial(jobs, make) for flow, make in FLOWS.items()}
