"""zuko's flows."""

import functools

import zuko
from of_torch import jobs_of


def jobs(make, case, mode):
    flow = make(case)

    def log_prob(x, context):
        return flow(context).log_prob(x)

    def sample(count, context):
        return flow(context).sample((count,) if context is None else ())

    return jobs_of(case, mode, flow, log_prob, sample, lambda count: flow().rsample_and_log_prob((count,)))


def sizes(case):
    return {"transforms": case.num_layers, "hidden_features": case.hidden_units, "context": case.context_size}


def iaf(case):
    inverse = zuko.flows.MAF(case.event_size, **sizes(case))
    layers = [zuko.lazy.LazyInverse(layer) for layer in inverse.transform.transforms]
    return zuko.flows.Flow(layers, inverse.base)


def continuous(case):
    """Of one transformation, with the exact trace and zuko's tolerances made ours."""
    flow = zuko.flows.CNF(case.event_size, hidden_features=case.hidden_units, exact=True, atol=1e-5, rtol=1e-5)
    return flow


FLOWS = {
    "realnvp": lambda case: zuko.flows.RealNVP(case.event_size, **sizes(case)),
    "spline coupling": lambda case: zuko.flows.NSF(case.event_size, bins=case.num_bins, passes=2, **sizes(case)),
    "spline autoregressive": lambda case: zuko.flows.NSF(case.event_size, bins=case.num_bins, **sizes(case)),
    "maf": lambda case: zuko.flows.MAF(case.event_size, **sizes(case)),
    "iaf": iaf,
    "gaussianization": lambda case: zuko.flows.GF(
        case.event_size, transforms=case.num_layers, components=case.num_bins
    ),
    "continuous": continuous,
}
MAKERS = {flow: functools.partial(jobs, make) for flow, make in FLOWS.items()}
