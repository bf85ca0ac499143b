"""What the callbacks for flows have in common."""

import keras

from tfp_flows.model import FlowModel


class FlowCallback(keras.callbacks.Callback):
    """A Keras callback that accepts only a `FlowModel`."""

    def set_model(self, model: keras.Model) -> None:
        if not isinstance(model, FlowModel):
            raise TypeError(f"Expected `{type(self).__name__}` among the callbacks of a FlowModel. Received: {model}")
        super().set_model(model)
