"""The settings of every verb: one pydantic model per verb, shared by recipes, the command line and the Python API.

A field's type, default, bounds and description are written once, here; `compress.cli.options` turns them into
command-line options and `compress.recipe.schema` into the recipe's schema. This package imports no torch.
"""

from compress.settings.base import Settings, seconds_of
from compress.settings.distill import DistillSettings
from compress.settings.export import ExportSettings, TuneSettings
from compress.settings.factorize import FactorizeSettings
from compress.settings.finetune import MODE_DEFAULTS, FinetuneSettings, TrainSettings
from compress.settings.measure import BenchSettings, EvalSettings
from compress.settings.prune import PruneSettings
from compress.settings.quantize import QuantizeSettings
from compress.settings.share import ShareSettings

__all__ = [
    "MODE_DEFAULTS",
    "BenchSettings",
    "DistillSettings",
    "EvalSettings",
    "ExportSettings",
    "FactorizeSettings",
    "FinetuneSettings",
    "PruneSettings",
    "QuantizeSettings",
    "Settings",
    "ShareSettings",
    "TrainSettings",
    "TuneSettings",
    "seconds_of",
]
