"""Any TFP object to plain JSON and back."""

from tfp_flows.saving.config import from_config, to_config

__all__ = ["from_config", "to_config"]
