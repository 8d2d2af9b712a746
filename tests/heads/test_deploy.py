import json

import pytest
from pictures import write_images

from featurestore import extract
from featurestore.errors import SourceError, SpecMismatchError
from heads import fit_head
from heads.deploy import Predictor, find_images


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    work = tmp_path_factory.mktemp("deploy")
    write_images(work / "colours", 8)
    file = extract(work / "colours", work, size=32, batch_size=8, pool="flatten").path
    fit_head(file, "knn", out=work / "head")
    return work


def test_predictions_are_in_the_order_of_the_inputs_and_pass_over_bad_ones(head, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    inputs = [head / "colours" / "red" / "0-001.png", tmp_path / "bad.jpg", head / "colours" / "blue"]
    found = list(Predictor(head / "head").predict(inputs))
    assert [item.path for item in found[:2]] == [str(inputs[0]), str(inputs[1])]
    assert (found[0].label, found[1].label, found[1].error) == ("red", None, "not an image of a known format")
    assert len(found) == 10 and all(item.label == "blue" for item in found[2:])
    assert abs(sum(found[0].probabilities.values()) - 1) < 1e-9
    assert json.loads(json.dumps(found[1].to_dict()))["probabilities"] == {}


def test_the_same_image_twice(head):
    image = head / "colours" / "red" / "0-001.png"
    one, two = Predictor(head / "head").predict([image, image])
    assert one == two


def test_another_backbone_than_the_heads_is_refused(head):
    with pytest.raises(SpecMismatchError, match=r"weights_digest.*--weights"):
        Predictor(head / "head", weights="random")


def test_a_folder_without_images(tmp_path):
    with pytest.raises(SourceError, match="no images in this folder"):
        list(find_images([tmp_path]))
