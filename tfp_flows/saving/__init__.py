"""Any TFP object to plain JSON and back; and copies of them."""

from tfp_flows.saving import copies  # noqa: F401 (it tells Python's `copy` and `pickle` how)
from tfp_flows.saving.config import from_config, to_config

__all__ = ["from_config", "to_config"]
