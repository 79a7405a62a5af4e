"""Which parameters are trained."""

from __future__ import annotations

from compress.models.family import family_of
from compress.models.layers import find_submodule
from compress.models.model_shape import count_params
from compress.training.trainable import freeze_embeddings, head_modules, train_only, trained_share
from tests import tiny


def test_freezing_stops_the_embeddings_gradients(family: str) -> None:
    model = tiny.make_model(family)
    freeze_embeddings(model)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    encoder = family_of(family).encoder
    assert sorted(frozen) == sorted(
        f"{encoder}.embeddings.{name}" for name, _ in find_submodule(model, encoder).embeddings.named_parameters()
    )


def test_only_the_given_modules_are_trained(family: str) -> None:
    model = tiny.make_model(family)
    train_only(model, head_modules(model, "class"))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith(family_of(family).head_parts("class"))}


def test_the_trained_share_counts_parameters() -> None:
    model = tiny.make_model()
    assert trained_share(model) == (count_params(model), 1.0)
    train_only(model, [model.classifier])
    expected = len(tiny.LABELS) * (tiny.HIDDEN + 1)
    assert trained_share(model) == (expected, expected / count_params(model))
