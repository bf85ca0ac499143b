"""Seven two-dimensional shapes, the usual first targets of a flow, each with its exact density and entropy.

The entropy is the negative log-likelihood, in nats, of the best possible model: what a fit can be compared with.

>>> import tfp_flows as tff
>>> x = tff.datasets.two_moons(20_000, seed=0)
>>> x.shape, x.dtype.name
((20000, 2), 'float32')
>>> round(tff.datasets.two_moons.entropy(), 3), round(float(-tff.datasets.two_moons.log_prob(x).mean()), 2)
(0.289, 0.29)

The shapes are, except where noted, those of scikit-learn (`make_moons`, `make_swiss_roll`) and of the
experiments of Grathwohl et al. 2019, arXiv 1810.01367.
"""

import math

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.datasets.planar_set import LOG_2PI, BlurredCurves, PlanarSet, blurred, gaussian_terms


class TwoMoons(BlurredCurves):
    """Two interleaved half circles of radius 1, uniform along their length.

    The upper one is centred at (0, 0), the lower one at (1, 1/2). Noise: 0.05, the Gaussian blur.

    Source: `make_moons` of scikit-learn, with positions drawn at random where it takes equal steps.
    """

    name = "two_moons"
    noise = 0.05

    def curves(self, t: np.ndarray) -> np.ndarray:
        x, y = np.cos(np.pi * t), np.sin(np.pi * t)
        return np.stack([np.stack([x, y], axis=-1), np.stack([1 - x, 0.5 - y], axis=-1)])


class EightGaussians(PlanarSet):
    """Eight equally likely isotropic Gaussians, evenly on a circle of radius √8, the first on the first axis.

    p(x) = (1/8) Σ_k N(x; c_k, noise² I). Noise: 0.35, the standard deviation of each.

    Source: Grathwohl et al. 2019.
    """

    name = "eight_gaussians"
    noise = 0.35
    centers = math.sqrt(8) * np.stack([np.cos(np.pi / 4 * np.arange(8)), np.sin(np.pi / 4 * np.arange(8))], axis=-1)

    def _draw(self, n, noise, random):
        return blurred(self.centers[random.integers(8, size=n)], noise, random)

    def _log_terms(self, noise):
        return gaussian_terms(self.centers, np.full(8, -math.log(8)), noise)

    def _box(self):
        return self.centers.min(axis=0), self.centers.max(axis=0)


class Checkerboard(PlanarSet):
    """The eight dark squares of a board of four by four, uniform; the board is [-4, 4]², a square has the side 2.

    p(x) = 1/32 on the dark squares. With noise, each square is blurred by the Gaussian to the product over both
    coordinates of Φ((upper - x) / noise) - Φ((lower - x) / noise), times 1/32. Noise: 0.

    Source: Grathwohl et al. 2019.
    """

    name = "checkerboard"
    noise = 0.0
    side = 2.0
    centers = np.array([(x, y) for x in (-3, -1, 1, 3) for y in (-3, -1, 1, 3) if (x - y) % 4 == 0], dtype=np.float64)

    def _draw(self, n, noise, random):
        squares = self.centers[random.integers(len(self.centers), size=n)]
        return blurred(squares + self.side * random.uniform(-0.5, 0.5, size=(n, 2)), noise, random)

    def _log_terms(self, noise):
        log_constant = -math.log(len(self.centers) * self.side**2)

        def log_terms(x):
            distance = x[:, np.newaxis, :] - self.centers
            if noise == 0:
                # Edges count as inside: a point drawn next to one may be rounded onto it.
                inside = np.all(np.abs(distance) <= self.side / 2, axis=-1)
                return log_constant + np.where(inside, 0.0, -np.inf)
            return log_constant + _log_normal_interval(distance / noise, self.side / 2 / noise).sum(axis=-1)

        return len(self.centers), log_terms

    def _box(self):
        return self.centers.min(axis=0) - self.side / 2, self.centers.max(axis=0) + self.side / 2

    def _entropy(self, noise):
        return math.log(len(self.centers) * self.side**2) if noise == 0 else super()._entropy(noise)

    def _check_density_exists(self, noise):
        """It always does: the squares have an area, with noise and without."""


class TwoSpirals(BlurredCurves):
    """Two Archimedean spirals of one turn and a half, opposite to each other, out to the radius π.

    c(t) = ±π t (-cos 3πt, sin 3πt). The place t is the square root of a uniform number, which spreads the points
    almost evenly along the arms. Noise: 0.1, the Gaussian blur.

    Source: Grathwohl et al. 2019, without the uniform smear that they add to the noise.
    """

    name = "two_spirals"
    noise = 0.1
    power = 2

    def curves(self, t: np.ndarray) -> np.ndarray:
        angle = 3 * np.pi * t
        arm = np.pi * t[:, np.newaxis] * np.stack([-np.cos(angle), np.sin(angle)], axis=-1)
        return np.stack([arm, -arm])


class Pinwheel(PlanarSet):
    """Five equally likely arms, each an elongated Gaussian that is twisted about the origin.

    v = (2 + 0.6 ε₁, noise ε₂), then turned by the angle 2πk/5 + 0.4 |v| into x. A rotation by an angle that depends on
    the radius only keeps the radius and the area, and is undone by the opposite rotation, so that
    p(x) = (1/5) Σ_k N(v_k(x); (2, 0), diag(0.6², noise²)) without approximation. Noise: 0.2, the width of an arm.

    Source: after Johnson et al. 2016, arXiv 1603.06277. Their angle is an exponential of v₁, which is not one-to-one
    and leaves no closed-form density; ours is linear in |v|.
    """

    name = "pinwheel"
    noise = 0.2
    radius, length, twist = 2.0, 0.6, 0.4
    angles = 2 * np.pi / 5 * np.arange(5)

    def _draw(self, n, noise, random):
        v = random.normal(size=(n, 2)) * (self.length, noise) + (self.radius, 0)
        angle = random.choice(self.angles, size=n) + self.twist * np.hypot(*v.T)
        return np.stack(_rotated(*v.T, angle), axis=-1)

    def _log_terms(self, noise):
        log_constant = -math.log(len(self.angles)) - LOG_2PI - math.log(self.length * noise)

        def log_terms(x):
            x1, x2 = x[:, :1], x[:, 1:]
            v1, v2 = _rotated(x1, x2, -(self.angles + self.twist * np.hypot(x1, x2)))
            return log_constant - (((v1 - self.radius) / self.length) ** 2 + (v2 / noise) ** 2) / 2

        return len(self.angles), log_terms

    def _box(self):
        reach = self.radius + 9 * self.length
        return (-reach, -reach), (reach, reach)

    def _narrowest(self, noise):
        # The twist shears an arm: far out it is narrower than the noise.
        return min(self.length, noise) / 2


class SwissRoll2D(BlurredCurves):
    """One Archimedean spiral of one turn and a half, from the radius 0.94 to 2.83, uniform in its angle.

    c(t) = φ/5 (cos φ, sin φ) with the angle φ from 3π/2 to 9π/2. Noise: 0.1, the Gaussian blur.

    Source: the first and the last coordinate of `make_swiss_roll` of scikit-learn, divided by 5.
    """

    name = "swiss_roll_2d"
    noise = 0.1

    def curves(self, t: np.ndarray) -> np.ndarray:
        angle = 1.5 * np.pi * (1 + 2 * t)
        return (angle[:, np.newaxis] / 5 * np.stack([np.cos(angle), np.sin(angle)], axis=-1))[np.newaxis]


class Rings(PlanarSet):
    """Four equally likely concentric circles, uniform in the angle, of the radii 0.75, 1.5, 2.25 and 3.

    The integral over the angle is a Bessel function. With r = |x| and the exponentially scaled I₀ᵉ(z) = exp(-z) I₀(z):

    p(x) = (1/4) Σ_k exp(-(r - R_k)² / (2 noise²)) I₀ᵉ(r R_k / noise²) / (2π noise²). Noise: 0.08, the Gaussian blur.

    Source: Grathwohl et al. 2019.
    """

    name = "rings"
    noise = 0.08
    radii = np.array([0.75, 1.5, 2.25, 3.0])

    def _draw(self, n, noise, random):
        radius = random.choice(self.radii, size=n)
        angle = random.uniform(0, 2 * np.pi, size=n)
        return blurred(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1), noise, random)

    def _log_terms(self, noise):
        log_constant = -math.log(len(self.radii)) - LOG_2PI - 2 * math.log(noise)

        def log_terms(x):
            r = np.hypot(x[:, :1], x[:, 1:])
            log_bessel = np.log(tf.math.bessel_i0e(r * self.radii / noise**2).numpy())
            return log_constant - ((r - self.radii) / noise) ** 2 / 2 + log_bessel

        return len(self.radii), log_terms

    def _box(self):
        reach = self.radii.max()
        return (-reach, -reach), (reach, reach)


def _rotated(x1, x2, angle):
    """The coordinates of the points (x1, x2) turned counterclockwise."""
    return x1 * np.cos(angle) - x2 * np.sin(angle), x1 * np.sin(angle) + x2 * np.cos(angle)


def _log_normal_interval(center, half_width):
    """log(Φ(center + half_width) - Φ(center - half_width)), precise in both tails."""
    # By symmetry the interval may lie on the negative side, where Φ is small and loses no digits.
    center = -np.abs(center)
    log_cdf = tfp.distributions.Normal(np.float64(0), np.float64(1)).log_cdf
    return tfp.math.log_sub_exp(log_cdf(center + half_width), log_cdf(center - half_width)).numpy()


two_moons = TwoMoons()
eight_gaussians = EightGaussians()
checkerboard = Checkerboard()
two_spirals = TwoSpirals()
pinwheel = Pinwheel()
swiss_roll_2d = SwissRoll2D()
rings = Rings()
