"""The hidden unit h of planar and Sylvester flows, and the scalar root on which their inverses rest."""

import math

import tensorflow as tf

from tfp_flows._math.roots import increasing_root


class HiddenUnit:
    """An increasing h with slopes between 0 and 1, and the root a of a + c h(a) = y for any c > -1.

    h lies within `gap` of a broken line, its graph of straight pieces. With the line in place of h the root is a
    formula; so it is with the line moved up and down by the gap, and those two roots bracket the root of h itself.
    """

    gap = 0.0

    def __call__(self, a):
        """h(a) and h'(a)."""
        raise NotImplementedError

    def line_root(self, c, y):
        """The root with the broken line in place of h."""
        raise NotImplementedError

    def root(self, c, y):
        """a with a + c h(a) = y, to rounding, with its derivatives."""

        def function(a):
            h, slope = self(a)
            return a + c * h - y, 1 + c * slope

        gap = tf.abs(c) * self.gap
        low, start, high = (self.line_root(c, level) for level in (y - gap, y, y + gap))
        return increasing_root(function, low, high, start, size=1 + tf.abs(y) + tf.abs(start))


class Tanh(HiddenUnit):
    """h(a) = tanh(a), beside which the line is a between -1 and 1 and constant outside."""

    gap = 1 - math.tanh(1)

    def __call__(self, a):
        h = tf.tanh(a)
        return h, 1 - h**2

    def line_root(self, c, y):
        bend = 1 + c
        return tf.clip_by_value(y / bend, -1, 1) + y - tf.clip_by_value(y, -bend, bend)


class Softplus(HiddenUnit):
    """h(a) = log(1 + exp(a)), beside which the line is 0 and then a."""

    gap = math.log(2)

    def __call__(self, a):
        return tf.math.softplus(a), tf.math.sigmoid(a)

    def line_root(self, c, y):
        return tf.where(y > 0, y / (1 + c), y)


class LeakyReLU(HiddenUnit):
    """h(a) = a for a > 0, a / 5 for a < 0: it is a broken line itself."""

    def __call__(self, a):
        slope = tf.where(a > 0, tf.ones_like(a), 0.2 * tf.ones_like(a))
        return slope * a, slope

    def line_root(self, c, y):
        return tf.where(y > 0, y / (1 + c), y / (1 + 0.2 * c))

    def root(self, c, y):
        return self.line_root(c, y)


HIDDEN_UNITS = {"tanh": Tanh(), "softplus": Softplus(), "leaky_relu": LeakyReLU()}


def hidden_unit(activation):
    """The hidden unit of that name, or a ValueError that lists the names."""
    if activation not in HIDDEN_UNITS:
        raise ValueError(
            f"Expected `activation` to be one of {list(HIDDEN_UNITS)}. Received: activation={activation!r}"
        )
    return HIDDEN_UNITS[activation]
