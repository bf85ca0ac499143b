"""A SavedModel behind HTTP: JSON in, JSON out; it needs the extra `serve` (starlette, uvicorn).

`FlowModel.export` writes the SavedModel. Its graphs are served: TensorFlow runs them, and no Python of the model.
"""

from tfp_flows.serving.app import Limits, app, run

__all__ = ["Limits", "app", "run"]
