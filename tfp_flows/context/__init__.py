"""How a context reaches the parts of a flow, is checked, bound (`condition`) and compressed (`Embedded`)."""

from tfp_flows.context.condition import Conditioned, condition
from tfp_flows.context.context_bijector import ContextBijector
from tfp_flows.context.embedded import Embedded, embedded, input_and_output
from tfp_flows.context.joining import call_conditioner, check_context_mode, concatenate, gated
from tfp_flows.context.route import (
    checked_context,
    context_arguments,
    context_batch_shape,
    context_shape_of,
)
from tfp_flows.context.standardized import StandardizedContext
from tfp_flows.context.walk import walk

__all__ = [
    "Conditioned",
    "ContextBijector",
    "Embedded",
    "StandardizedContext",
    "call_conditioner",
    "check_context_mode",
    "checked_context",
    "concatenate",
    "condition",
    "context_arguments",
    "context_batch_shape",
    "context_shape_of",
    "embedded",
    "gated",
    "input_and_output",
    "walk",
]
