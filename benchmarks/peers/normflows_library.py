"""normflows' flows."""

import functools

import normflows as nf
from of_torch import jobs_of


def jobs(make, case, mode):
    if case.context_size:
        raise NotImplementedError("couplings without context")
    layers = make(case)
    if case.image_shape:
        flow = layers
    else:
        turned = [nf.flows.Permute(case.event_size, mode="swap") for _ in layers]
        layers = [part for pair in zip(layers, turned, strict=True) for part in pair][:-1]
        flow = nf.NormalizingFlow(nf.distributions.base.DiagGaussian(case.event_size, trainable=False), layers)
    return jobs_of(
        case,
        mode,
        flow,
        lambda x, context: flow.log_prob(x, None) if case.image_shape else flow.log_prob(x),
        lambda count, context: flow.sample(count)[0],
        flow.sample,
    )


def realnvp(case):
    kept = (case.event_size + 1) // 2
    network = [kept, *case.hidden_units, 2 * (case.event_size - kept)]
    return [nf.flows.AffineCouplingBlock(nf.nets.MLP(network, init_zeros=True)) for _ in range(case.num_layers)]


def splines(layer):
    def make(case):
        options = {"num_bins": case.num_bins, "tail_bound": 3.0}
        sizes = (case.event_size, len(case.hidden_units), case.hidden_units[0])
        return [layer(*sizes, **options) for _ in range(case.num_layers)]

    return make


def autoregressions(case):
    """Of which `forward`, from the base, is the cheap direction: reversed for a MAF."""
    layers = [
        nf.flows.MaskedAffineAutoregressive(case.event_size, case.hidden_units[0], num_blocks=len(case.hidden_units))
        for _ in range(case.num_layers)
    ]
    return list(map(nf.flows.Reverse, layers)) if case.flow == "maf" else layers


def glow(case):
    height, width, channels = case.image_shape
    bases, merges, flows = [], [], []
    for level in range(case.num_layers):
        is_last = level == case.num_layers - 1
        size = (channels * 4, height // 2, width // 2)
        block = functools.partial(nf.flows.GlowBlock, size[0], case.hidden_units[0], split_mode="channel", scale=True)
        flows.append([*(block() for _ in range(4)), nf.flows.Squeeze()])
        if not is_last:
            merges.append(nf.flows.Merge())
            size = (size[0] // 2, *size[1:])
        bases.append(nf.distributions.DiagGaussian(size, trainable=False))
        channels, height, width = size
    return nf.MultiscaleFlow(bases[::-1], flows[::-1], merges[::-1], class_cond=False)


FLOWS = {
    "realnvp": realnvp,
    "spline coupling": splines(nf.flows.CoupledRationalQuadraticSpline),
    "spline autoregressive": splines(nf.flows.AutoregressiveRationalQuadraticSpline),
    "maf": autoregressions,
    "iaf": autoregressions,
    "glow": glow,
}
MAKERS = {flow: functools.partial(jobs, make) for flow, make in FLOWS.items()}
