"""The flows that `make bench` measures: the same architecture in every library."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Case:
    """A flow, and how many rows its jobs take.

    Attributes:
      flow: the kind, by which a library finds how it makes it.
      event_size: D.
      num_layers, hidden_units, num_bins: of every layer.
      context_size: C, 0 for none.
      batch: the rows of a training step.
      points: the rows of a density and of a sample.
      image_shape: of images, whose D is its product; then `num_layers` is the number of levels, of 4 steps each.
    """

    flow: str
    event_size: int
    num_layers: int
    hidden_units: tuple = ()
    num_bins: int = 8
    context_size: int = 0
    batch: int = 512
    points: int = 10_000
    image_shape: tuple | None = None

    @property
    def shape(self):
        return self.image_shape or (self.event_size,)


CASES = {
    "RealNVP, D=8, 8 layers 2x128": Case("realnvp", 8, 8, (128, 128)),
    "RealNVP, D=7, context 420, 6 layers 3x256": Case("realnvp", 7, 6, (256, 256, 256), context_size=420),
    "spline coupling, D=43, 10 layers 2x128": Case("spline coupling", 43, 10, (128, 128)),
    "spline autoregressive, D=6, 5 layers 2x256": Case("spline autoregressive", 6, 5, (256, 256)),
    "MAF, D=43, 5 layers 2x512": Case("maf", 43, 5, (512, 512), points=1000),
    "MAF, D=256, 1 layer 2x1024": Case("maf", 256, 1, (1024, 1024), points=1000),
    "IAF, D=43, 5 layers 2x512": Case("iaf", 43, 5, (512, 512), points=1000),
    "Gaussianization, D=6, 6 layers": Case("gaussianization", 6, 6),
    "planar, inverted: densities cheap, D=2, 32 layers": Case("planar", 2, 32),
    "FFJORD, D=2, 3x64": Case("continuous", 2, 1, (64, 64, 64), batch=256, points=256),
    "Glow, 16x16x3, 2 levels of 4, width 64": Case("glow", 768, 2, (64,), batch=32, points=32, image_shape=(16, 16, 3)),
}
JOBS = ("train", "density", "epoch", "sample")
EPOCH_BATCHES = 40
