from dataclasses import replace
from threading import current_thread
from types import SimpleNamespace

import numpy as np
import pytest

from featurestore import engines
from featurestore.backbones import load_backbone
from featurestore.engines import Compiler, compile_backbone, difference, producer, registry
from featurestore.errors import BackboneError
from featurestore.spec import Framing


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("efficientnet_lite0", size=64, taps=["block2a_expand_conv=none", "last=avg", "last=max"])


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_every_engine_gives_what_predict_gives(backbone, pixels, engine):
    run = compile_backbone(backbone, engine)
    once, again = run(pixels)(), run(pixels)()
    plain = backbone.model.predict(pixels, verbose=0)
    assert set(once) == set(plain) == {"block2a_expand_conv", "last.avg", "last.max"}
    for tap, values in once.items():
        assert values.dtype == np.float32 and values.shape == (8, *backbone.shapes[tap])
        np.testing.assert_array_equal(values, again[tap])
        assert difference(plain[tap], values) < 1e-5


def test_openvino_sets_itself_up_before_there_are_threads(backbone, pixels, monkeypatch):
    """Two threads that were in its first inference at once have waited for each other for ever."""
    import openvino

    infer, seen = openvino.InferRequest.infer, []

    def recorded(request, *inputs, **options):
        seen.append(current_thread())
        return infer(request, *inputs, **options)

    monkeypatch.setattr(openvino.InferRequest, "infer", recorded)
    compile_backbone(backbone, "openvino")(pixels)()
    assert seen[0] is current_thread() and len(seen) > len(pixels) and current_thread() not in seen[1:]


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_a_row_does_not_depend_on_its_neighbours(backbone, pixels, engine):
    """What the padding of batches rests on."""
    run = compile_backbone(backbone, engine)
    alone = np.zeros_like(pixels)
    alone[3] = pixels[3]
    np.testing.assert_array_equal(run(pixels)()["last.avg"][3], run(alone)()["last.avg"][3])


def test_several_batches_may_be_under_way(backbone, pixels):
    run = compile_backbone(backbone, "openvino")
    batches = [np.roll(pixels, i, axis=0) for i in range(4)]
    found = [finish()["last.avg"] for finish in [run(batch) for batch in batches]]
    for i, values in enumerate(found):
        np.testing.assert_array_equal(values, np.roll(found[0], i, axis=0))


def test_layers_may_have_names_that_begin_with_an_underscore(tmp_path, pixels):
    import keras

    image = keras.Input((64, 64, 3))
    keras.Model(image, keras.layers.Conv2D(4, 3, name="_conv")(image), name="_net").save(tmp_path / "_net.keras")
    odd = load_backbone(str(tmp_path / "_net.keras"), preprocessing="tf", taps=["_conv=max"])
    for engine in ("keras", "openvino"):
        assert compile_backbone(odd, engine)(pixels)()["last"].shape == (8, 4)


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.15), ("float16", 0.02)])
def test_lower_precision_is_near(backbone, pixels, precision, most):
    exact = compile_backbone(backbone)(pixels)()["last.avg"]
    found = compile_backbone(replace(backbone, precision=precision))(pixels)()["last.avg"]
    assert found.dtype == np.float32
    assert 1e-5 < difference(exact, found) < most
    np.testing.assert_array_equal(compile_backbone(backbone)(pixels)()["last.avg"], exact)  # the model is as it was


@pytest.mark.parametrize("engine", ["keras", "openvino", "reference"])
def test_crops_are_averaged_behind_the_pooling(backbone, pixels, engine):
    """The mean of crops is the mean of the rows of images that were cut by hand; of one colour, it is the one look."""
    look = backbone.framed(Framing(64, crop_share=0.8, crops=10))
    large = np.random.default_rng(1).integers(0, 256, (8, 80, 80, 3), dtype=np.uint8)
    large[0] = 77
    plain = compile_backbone(backbone, engine)
    _, compute = Compiler().compiled(look, engine)
    found, again = compute(large)(), compute(large)()
    places = [(0, 0), (0, 16), (16, 0), (16, 16), (8, 8)]
    by_hand = [large[:, top : top + 64, left : left + 64] for top, left in places]
    by_hand += [crop[:, :, ::-1] for crop in by_hand]
    one = plain(large[:, :64, :64])()
    for tap, values in found.items():
        assert values.dtype == np.float32 and values.shape == (8, *backbone.shapes[tap])
        expected = np.mean([plain(np.ascontiguousarray(crop))()[tap] for crop in by_hand], axis=0, dtype=np.float64)
        np.testing.assert_array_equal(values, expected.astype(np.float32))
        np.testing.assert_array_equal(values, again[tap])
        np.testing.assert_array_equal(values[0], one[tap][0])


def test_a_network_in_several_framings_is_compiled_once(backbone, pixels, monkeypatch):
    compiled = []
    monkeypatch.setattr(registry, "compile_backbone", lambda *given: compiled.append(given) or compile_backbone(*given))
    compiler = Compiler()
    made = [
        compiler.compiled(backbone.framed(framing), "openvino")
        for framing in (Framing(64), Framing(64, "crop"), Framing(64, "crop", crop_share=0.5, crops=5))
    ]
    assert len(compiled) == 1
    assert [network.resize for network, _ in made] == ["squash", "crop", "crop"]
    assert len({network.openvino_model().get_friendly_name() for network, _ in made}) == 1
    compiler.compiled(backbone, "keras")
    compiler.compiled(replace(backbone, precision="bfloat16"), "keras")
    assert len(compiled) == 3


def test_crops_count_as_images(backbone):
    assert engines.choose(backbone, 100) == "keras"
    assert engines.choose(backbone.framed(Framing(64, crop_share=0.5, crops=5)), 100) == "openvino"


def test_an_engine_that_gives_something_else_is_refused(backbone, pixels, monkeypatch):
    import keras

    other = load_backbone("efficientnet_lite0", size=64, weights="random", taps=backbone.taps)
    assert isinstance(other.model, keras.Model)
    keras_engine = registry._ENGINES["keras"]
    monkeypatch.setitem(
        registry._ENGINES,
        "other",
        SimpleNamespace(
            why_not=keras_engine.why_not,
            adapted=keras_engine.adapted,
            compile_backbone=lambda _: keras_engine.compile_backbone(other),
        ),
    )
    finish = compile_backbone(backbone, "other")(pixels)
    with pytest.raises(BackboneError, match=r"the engine other gives features of .*, tap .* that differ"):
        finish()


def test_a_converted_network_that_gives_something_else_is_refused_before_it_runs(backbone):
    network = engines.adapted(backbone, "openvino")
    assert engines.adapted(network, "openvino") is network
    assert {network.openvino_model().output(i).any_name for i in range(3)} == set(backbone.shapes)
    for name, values in network.expected.items():
        assert values.shape == (2, *backbone.shapes[name])
    wrong = replace(network, expected={tap: values * 1.01 for tap, values in network.expected.items()})
    with pytest.raises(BackboneError, match=r"the engine openvino gives features of .*, tap .* that differ by 1.0%"):
        compile_backbone(wrong, "openvino")


def test_a_network_that_changed_meanwhile_is_not_taken_for_the_converted_one(backbone):
    network = replace(engines.adapted(backbone, "openvino"), build=lambda: replace(backbone, weights_digest="1" * 64))
    with pytest.raises(BackboneError, match="its weights have changed"):
        compile_backbone(network, "keras")


def test_engines_are_compared_before_long_runs_only(backbone, monkeypatch):
    monkeypatch.setattr(registry, "fastest", lambda network: "measured")
    assert engines.choose(backbone, 10) == "keras"
    assert engines.choose(backbone, 1000) == "openvino"
    assert engines.choose(replace(backbone, size=32), 1000) == "keras"
    assert engines.choose(backbone, 10**8) == "measured"
    assert engines.choose(engines.adapted(backbone, "openvino"), 10) == "openvino"
    monkeypatch.setattr(registry, "accelerators", lambda: 1)
    assert engines.choose(backbone, 10**8) == "keras"


@pytest.mark.parametrize(("seconds", "rounds"), [(0.1, 4), (2.0, 3), (30.0, 1)])
def test_large_images_do_not_make_the_comparison_long(backbone, monkeypatch, seconds, rounds):
    now, passes = [0.0], []

    def measured(compute, pixels):
        passes.append(pixels.shape)
        now[0] += seconds
        return seconds / len(passes)  # so that the last one of a round is the faster one

    monkeypatch.setattr(registry, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(registry, "_seconds", measured)
    assert engines.fastest(backbone) == "openvino"
    assert passes == [(8, 64, 64, 3)] * 2 * rounds


def test_the_fastest_engine_is_one_that_is_there(backbone):
    assert engines.fastest(backbone) in ("keras", "openvino")
    assert not engines.available("teleport", backbone)


def test_the_producer_names_engine_and_versions(backbone):
    import keras
    import openvino

    made = producer(backbone, "keras")
    assert made["engine"] == "keras" and made["keras"] == keras.__version__
    assert {"numpy", "pillow", keras.backend.backend()} <= set(made)
    assert openvino.__version__.startswith(producer(backbone, "openvino")["openvino"])


def test_the_library_of_an_engine_is_not_imported_before_its_turn(backbone, monkeypatch):
    monkeypatch.setattr(registry.openvino_engine, "why_not", lambda network: pytest.fail("it was asked"))
    assert registry.default(backbone) == "keras"
