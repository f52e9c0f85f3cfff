"""Linear models as a kernel say what River says, to 1e-9, whatever they were taught and are asked."""

import pickle
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillstream.models.features.declared import DECLARED
from tillstream.models.linear import LinearModel, fast
from tillstream.models.propensity import PIPELINES, BadFeature, Features, RiverModel, untaught

NAMES = tuple(one.name for one in DECLARED)
AGREED = 1e-9

values = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 1.0, 1e-300, -1e300, 1.7e308]), st.floats(allow_nan=False, allow_infinity=False)
)
asked = st.dictionaries(st.sampled_from(NAMES), values, max_size=len(NAMES))


def taught(name: str, lessons: list[tuple[dict[str, float], bool]]) -> RiverModel:
    model = untaught(name)
    assert isinstance(model, RiverModel)
    for features, outcome in lessons:
        model.learn(features, outcome)
    return model


def usual(name: str, lessons: int = 60) -> RiverModel:
    """Taught what is usual: features of some magnitudes, some of them missing."""
    random = Random(lessons)
    return taught(
        name,
        [
            ({each: random.lognormvariate(2, 2) for each in NAMES if random.random() < 0.8}, random.random() < 0.3)
            for _ in range(lessons)
        ],
    )


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(["logistic", "ftrl"]), lessons=st.lists(st.tuples(asked, st.booleans()), min_size=1, max_size=12), ask=asked)
def test_kernel_says_what_river_says_whatever_was_taught(
    name: str, lessons: list[tuple[dict[str, float], bool]], ask: dict[str, float]
) -> None:
    model = taught(name, lessons)
    kernel = fast(model, NAMES)
    assert isinstance(kernel, LinearModel)
    for features in (ask, {}, lessons[0][0]):
        assert kernel.score(features) == pytest.approx(model.score(features), abs=AGREED)


@pytest.mark.parametrize("name", ["logistic", "ftrl"])
def test_kernel_of_a_model_that_learned_what_is_usual_agrees_and_asks_river_nothing(name: str) -> None:
    model = usual(name)
    kernel, random = fast(pickle.loads(pickle.dumps(model)), NAMES), Random(5)
    assert isinstance(kernel, LinearModel)
    kernel.river = Unasked(model.estimator)
    said = set()
    for _ in range(200):
        features = {each: random.lognormvariate(2, 2) for each in NAMES if random.random() < 0.8}
        score = kernel.score(features)
        assert score == pytest.approx(model.score(features), abs=AGREED)
        said.add(round(score, 3))
    assert len(said) > 10


class Unasked(RiverModel):
    """A model that nobody may ask."""

    def score(self, features: Features) -> float:
        raise AssertionError("River was asked")


@pytest.mark.parametrize("name", ["logistic", "ftrl"])
def test_kernel_leaves_other_names_and_bad_features_to_river(name: str) -> None:
    model = usual(name)
    kernel = fast(model, NAMES)
    assert kernel is not model
    assert kernel.score({"of_another_version": 3.0}) == model.score({"of_another_version": 3.0})
    with pytest.raises(BadFeature, match="due"):
        kernel.score({"due": float("inf")})


def test_models_that_are_not_linear_or_untaught_or_share_a_place_stay_as_they_are() -> None:
    forest, nothing = usual("forest", 3), untaught("ftrl")
    assert fast(forest, NAMES) is forest
    assert fast(nothing, NAMES) is nothing
    crowded = RiverModel(PIPELINES["ftrl"]())
    crowded.learn({"due": 1.0}, True)
    assert fast(crowded, [f"name_{number}" for number in range(2_000)]) is crowded
