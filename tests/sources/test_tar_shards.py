"""Images in tar files."""

import gzip
import json
import pickle
import tarfile

import pytest
from shards import picture, sample, samples, write_shards, write_tar
from source_files import refused, rows

from featurestore import FeatureStore, extract, open_source
from featurestore.errors import ImageError
from featurestore.sources.digest_cache import DigestCache


def failures(source):
    return [(failure.path, failure.reason) for failure in source.listing().failures]


def test_labels_in_cls_members(tmp_path):
    write_tar(tmp_path / "pets.tar", samples([10, 9, 10]))
    source = open_source(tmp_path / "pets.tar")
    assert (source.name, source.class_names) == ("pets", ("9", "10"))
    assert rows(source) == [(f"pets.tar/000{i}.png",) * 2 + (name, "") for i, name in enumerate(["10", "9", "10"])]
    assert [source.read(each) for each in source.dataset().samples] == [picture(i, i) for i in range(3)]


def test_texts_are_class_names(tmp_path):
    write_tar(tmp_path / "pets.tar", samples(["dog", "cat\n", "7"]))
    assert [row[2] for row in rows(open_source(tmp_path / "pets.tar"))] == ["dog", "cat", "7"]


@pytest.mark.parametrize("file", ["classes.txt", "classnames.txt", "dataset_info.json", "../classes.txt"])
def test_class_names_beside_the_tars(tmp_path, file):
    folder = tmp_path / "pets"
    write_tar(folder / "a.tar", [*samples([1, 0, 2]), *sample("9", 3, 9), *sample("8", -1, 8)])
    names = ["cat", "dog", "eel"]
    info = {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}}
    (folder / file).write_text(json.dumps(info) if file.endswith("json") else "cat\ndog\n\neel\n")
    source = open_source(folder)
    assert source.class_names == ("cat", "dog", "eel")
    assert [row[2] for row in rows(source)] == ["dog", "cat", "eel"]
    (_, reason), (path, told) = failures(source)
    assert reason.startswith("label '-1' is none of the 3 class names in ")
    assert (path, told[:11]) == ("a.tar/9.png", "label '3' i")


def test_json_tells_label_split_and_group(tmp_path):
    members = [
        *sample("a", "cat", 0, split="val", patient=7),
        *sample("b", "dog", 1, split="training", patient=7),
        *sample("c", 3, 2, split=None, patient="x"),
        *sample("d", "dog", 3, split="tset"),
        *sample("e", [1], 4, split="test"),
    ]
    write_tar(tmp_path / "pets.tar", members)
    source = open_source(tmp_path / "pets.tar", group_column="patient")
    assert [row[2:] for row in rows(source)] == [("cat", "validation"), ("dog", "train"), ("3", "")]
    assert [each.group for each in source.listing().samples] == ["7", "7", "x"]
    assert dict(failures(source))["pets.tar/d.json"] == "unknown split 'tset'"
    assert "not a whole number or a text" in dict(failures(source))["pets.tar/e.json"]
    assert open_source(tmp_path / "pets.tar", label_column="patient").class_names == ("7", "x")
    assert "--path-column" in refused(tmp_path / "pets.tar", path_column="patient")


def test_a_cls_comes_before_a_json(tmp_path):
    members = [*samples([1, 2]), ("0000.json", json.dumps({"label": 5, "split": "test"}).encode())]
    write_tar(tmp_path / "a.tar", members)
    assert [row[2:] for row in rows(open_source(tmp_path / "a.tar"))] == [("1", "test"), ("2", "")]


def test_class_folders_in_a_tar(tmp_path):
    members = [
        (f"./pets/{split}/{name}/1.{i}.png", picture(i)) for split in ("train", "val") for name in "ab" for i in (1, 2)
    ]
    write_tar(tmp_path / "pets.tar", [*members, ("pets/README.md", b"x"), ("pets/._1.png", b"x")])
    source = open_source(tmp_path / "pets.tar")
    assert rows(source)[0] == ("pets.tar/pets/train/a/1.1.png",) * 2 + ("a", "train")
    assert [row[3] for row in rows(source)] == ["train"] * 4 + ["validation"] * 4
    assert source.listing().skipped == {"hidden": 1, "with suffix .md": 1}
    assert "pets" in refused(tmp_path / "pets.tar", exclude=["c"])
    write_tar(tmp_path / "odd.tar", [*members, ("pets/old/a/1.png", b"x")])
    assert "--exclude old" in refused(tmp_path / "odd.tar")
    assert open_source(tmp_path / "odd.tar", exclude=["old"]).listing().skipped == {"in excluded folders": 1}


def test_splits_by_the_names_of_tars(tmp_path):
    for i, name in enumerate(["imagenet-train-000", "imagenet-train-001", "imagenet-val-000"]):
        write_tar(tmp_path / f"{name}.tar", samples([0, 1], 2 * i))
    assert [row[3] for row in rows(open_source(tmp_path))] == ["train"] * 4 + ["validation"] * 2
    source = open_source(f"{tmp_path}/imagenet-{{train-{{000..001}},val-000}}.tar")
    assert (source.name, len(rows(source))) == ("imagenet", 6)
    write_tar(tmp_path / "more.tar", samples([0, 1], 9))
    assert "more.tar is not" in refused(tmp_path)
    write_tar(tmp_path / "clip/train/0.tar", samples([0, 1]))
    write_tar(tmp_path / "clip/test/0.tar", samples([0, 1], 2))
    source = open_source(tmp_path / "clip")
    assert [row[::3] for row in rows(source)] == [
        ("test/0.tar/0002.png", "test"), ("test/0.tar/0003.png", "test"), ("train/0.tar/0000.png", "train"),
        ("train/0.tar/0001.png", "train"),
    ]  # fmt: skip


def test_a_folder_with_images_stays_a_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(picture(1))
    write_tar(tmp_path / "whole.tar", samples([0, 1]))
    source = open_source(tmp_path)
    assert source.class_names == ("a", "b") and source.listing().skipped == {"with suffix .tar": 1}


def test_damaged_tars(tmp_path):
    write_shards(tmp_path, 6, 3)
    whole = (tmp_path / "pets-001.tar").read_bytes()
    (tmp_path / "pets-001.tar").write_bytes(whole[: whole.index(b"0008.cls") - 600])  # within the image before
    (tmp_path / "pets-002.tar").write_bytes(b"")
    source = open_source(tmp_path)
    assert [row[0] for row in rows(source)][5:] == [
        "pets-000.tar/0005.png",
        "pets-001.tar/0006.png",
        "pets-001.tar/0007.png",
    ]
    (one, reason), (two, empty) = failures(source)
    assert (one, two) == ("pets-001.tar", "pets-002.tar")
    assert "cut off, or damaged, in member '0008.png'" in reason and reason.endswith("; 2 images before are used")
    assert "cut off" in empty
    (tmp_path / "pets-000.tar").write_bytes(b"no tar" * 200)
    (tmp_path / "pets-001.tar").unlink()
    assert "first: 'pets-000.tar', damaged, or no tar: no number in the header at byte 0" in refused(tmp_path)


def test_what_is_not_used_is_told(tmp_path):
    link = tarfile.TarInfo("0001.link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "0001.png"
    members = [
        *samples([0, 1, 0]), (link, b""), ("0001.seg.png", picture(8)), ("0002.png", picture(9)),
        ("0003.png", picture(9)),
        ("0002.cls", b"1"), ("0004.png", b""), ("0004.cls", b"1"), ("0005.png", b"no image"), ("0005.cls", b"1"),
        ("0006.png", picture(5)), ("0006.cls", b"\n"), ("0007.png", picture(5)), ("0007.json", b"{"), ("0008.txt", b""),
    ]  # fmt: skip
    write_tar(tmp_path / "a.tar", members)
    source = open_source(tmp_path / "a.tar")
    assert source.listing().skipped == {"further images of a sample": 1, "links": 1, "with suffix .txt": 1}
    assert dict(failures(source)) == {
        "a.tar/0002.cls": "a second member of this name: the first one counts",
        "a.tar/0002.png": "a second member of this name: the first one counts",
        "a.tar/0003.png": (lacks := "no label: no KEY.cls or KEY.json beside it tells one"),
        "a.tar/0006.cls": "no label in it",
        "a.tar/0006.png": lacks,
        "a.tar/0007.json": dict(failures(source))["a.tar/0007.json"],
        "a.tar/0007.png": lacks,
    }
    found = source.dataset()
    assert [each.id for each in found.samples] == [f"a.tar/000{i}.png" for i in (0, 1, 2, 5)]
    assert found.samples[2].label == 0
    assert "empty file" in {each.reason for each in found.failures}


def test_what_cannot_serve(tmp_path):
    write_tar(tmp_path / "one.tar", samples([1, 1]))
    assert "only one class, '1'" in refused(tmp_path / "one.tar")
    write_tar(tmp_path / "none.tar", [("1.png", picture(1)), ("2.png", picture(2))])
    assert "class folders inside of the tar" in refused(tmp_path / "none.tar")
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress((tmp_path / "one.tar").read_bytes()))
    assert "unpack it to a plain .tar" in refused(packed)
    packed.rename(tmp_path / "packed.tar")
    assert "compressed by gzip" in refused(tmp_path / "packed.tar")
    assert "no such file" in refused(f"{tmp_path}/one-{{00..03}}.tar")
    assert "no .tar file is there" in refused(f"{tmp_path}/x*.tar")
    assert "names no files" in refused(f"{tmp_path}/x{{0..99999999999}}.tar")
    assert "columns" not in refused(tmp_path / "none.tar", label_column="x")
    (tmp_path / "classes.txt").write_text("a\na\n")
    assert "class name 'a' stands twice" in refused(tmp_path / "one.tar")
    (tmp_path / "link.tar").symlink_to("/etc/hosts")
    assert "leads out of the source folder" in refused(f"{tmp_path}/l*.tar", contained=True)


def test_groups_by_a_pattern_over_members(tmp_path):
    write_tar(tmp_path / "a.tar", [*sample("p1_0", 0, 0), *sample("p1_1", 1, 1), *sample("p2_0", 1, 2)])
    source = open_source(tmp_path / "a.tar", group_pattern=r"/(p\d)_")
    assert [each.group for each in source.listing().samples] == ["p1", "p1", "p2"]


def test_exclude_names_classes(tmp_path):
    write_tar(tmp_path / "a.tar", samples([0, 1, 2, 1]))
    source = open_source(tmp_path / "a.tar", exclude=["1"])
    assert source.class_names == ("0", "2") and source.listing().skipped == {"of an excluded class": 2}


def test_a_part_reads_its_samples_in_another_process(tmp_path, monkeypatch):
    write_shards(tmp_path / "pets", 200, 2)
    monkeypatch.chdir(tmp_path)
    source = open_source("pets")
    found = source.dataset().samples
    some = [found[i] for i in (250, 3, 399)]
    raw = pickle.dumps(source.part(some))
    assert len(raw) < 2000
    monkeypatch.chdir("/")
    part = pickle.loads(raw)
    assert [part.read(each) for each in some] == [picture(i, i) for i in (250, 3, 399)]
    assert [part.part(some[1:]).read(each) for each in some[1:]] == [picture(3, 3), picture(399, 399)]


def test_samples_of_a_feature_file_are_found_by_their_ids(tmp_path):
    write_shards(tmp_path / "pets")
    result = extract(
        tmp_path / "pets", tmp_path / "store", backbone="small_cnn", weights="random", size=32, engine="keras"
    )
    store = FeatureStore(result.path)
    assert (store.dataset, len(store)) == ("pets", 12)
    source = open_source(tmp_path / "pets")
    assert [source.read(each) for each in store.samples([11, 0])] == [picture(11, 11), picture(0, 0)]
    gone = open_source(write_tar(tmp_path / "pets-000.tar", samples([0, 1], 50)))
    with pytest.raises(ImageError, match="no longer there"):
        gone.read(store.samples([0])[0])


def test_a_changed_tar_is_noticed_when_it_is_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples([0, 1]))
    source = open_source(path)
    first, second = source.dataset().samples
    raw = path.read_bytes()
    path.write_bytes(raw[:600] + b"?" + raw[601:3000])
    with pytest.raises(ImageError, match="changed since it was read first"):
        source.read(first)
    with pytest.raises(ImageError, match="the tar has become shorter"):
        source.read(second)


def test_unchanged_tars_are_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr("featurestore.system.stamps.MARGIN_NS", -(10**12))
    write_shards(tmp_path / "pets", 6, 2)
    cache, read = tmp_path / "cache", []

    def digests():
        source = open_source(tmp_path / "pets")
        monkeypatch.setattr(source, "_digest", lambda each, own=source._digest: read.append(each.id) or own(each))
        found = [each.digest for each in source.dataset(cache=DigestCache(cache)).samples]
        return found, len(read)

    first, count = digests()
    assert count == 12
    assert digests() == (first, 12)
    write_tar(tmp_path / "pets/pets-001.tar", samples([i % 3 for i in range(6, 12)], 6)[2:])
    assert digests() == (first[:6] + first[7:], 12 + 5)
