"""The zoo of `lossatlas.models`, under the name that scripts of the release of 2018 import."""

from lossatlas.models import MODELS, build, classes_in, load_into, load_network, read_state, save_state

__all__ = ["MODELS", "build", "classes_in", "load_into", "load_network", "read_state", "save_state"]
