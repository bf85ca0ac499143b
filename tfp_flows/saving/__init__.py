"""Any TFP object as plain JSON and back; copies and pickles."""

from tfp_flows.saving import copies  # noqa: F401 (it tells Python's `copy` and `pickle` how)
from tfp_flows.saving.config import from_config, to_config

__all__ = ["from_config", "to_config"]
