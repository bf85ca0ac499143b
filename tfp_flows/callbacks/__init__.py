"""What Keras lacks for flows: a doctor for non-finite steps, a monitor of bijectivity, pictures, a budget of time."""

from tfp_flows.callbacks.bijectivity_monitor import BijectivityMonitor
from tfp_flows.callbacks.diagnosis import Finding, diagnose
from tfp_flows.callbacks.flow_doctor import FlowDoctor
from tfp_flows.callbacks.flow_pictures import FlowPictures
from tfp_flows.callbacks.time_budget import TimeBudget

__all__ = ["BijectivityMonitor", "Finding", "FlowDoctor", "FlowPictures", "TimeBudget", "diagnose"]
