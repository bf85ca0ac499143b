"""Any TFP distribution made a Keras model; start reading in flow_model.py."""

from tfp_flows.model.flow_model import FlowModel

__all__ = ["FlowModel"]
