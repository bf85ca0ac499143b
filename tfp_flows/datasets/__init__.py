"""Data to try a flow on: two-dimensional shapes with exact densities, two real tables, and simulations."""

from tfp_flows.datasets.calorimeter import Calorimeter
from tfp_flows.datasets.cosmic_rays import CosmicRays
from tfp_flows.datasets.digits import digits, mnist_5000
from tfp_flows.datasets.epochs import shuffled
from tfp_flows.datasets.exoplanet import Exoplanet
from tfp_flows.datasets.gravitational_waves import GravitationalWaves
from tfp_flows.datasets.linear_gaussian import LinearGaussian
from tfp_flows.datasets.planar_set import PlanarSet
from tfp_flows.datasets.showers import Showers
from tfp_flows.datasets.simulator import simulator
from tfp_flows.datasets.tables import geyser, quakes
from tfp_flows.datasets.top_decays import TopDecays
from tfp_flows.datasets.two_dimensional import (
    checkerboard,
    eight_gaussians,
    pinwheel,
    rings,
    swiss_roll_2d,
    two_moons,
    two_spirals,
)

__all__ = [
    "PlanarSet",
    "two_moons",
    "eight_gaussians",
    "checkerboard",
    "two_spirals",
    "pinwheel",
    "swiss_roll_2d",
    "rings",
    "quakes",
    "geyser",
    "digits",
    "mnist_5000",
    "simulator",
    "shuffled",
    "LinearGaussian",
    "GravitationalWaves",
    "CosmicRays",
    "Showers",
    "TopDecays",
    "Calorimeter",
    "Exoplanet",
]
