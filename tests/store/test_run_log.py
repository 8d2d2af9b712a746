import json

import pytest

from featurestore.store.run_log import images_per_second, log


def end(path, computed, total, networks=1):
    log(path, "end", computed=computed, networks=networks, timing={"total": total, "idle": 0.1})


def test_the_speed_is_that_of_the_longest_run_of_this_network_alone(tmp_path):
    path = tmp_path / "flowers--vgg16--0.h5"
    assert images_per_second(path) is None
    log(path, "start", samples=9, missing=9)
    end(path, 60, 1.0)  # too short to say anything
    end(path, 9000, 10.0, networks=2)
    assert images_per_second(path) is None
    end(path, 500, 10.0)
    end(path, 300, 5.0)
    assert images_per_second(path) == 50


@pytest.mark.parametrize("line", ["", "{", "[]", '{"event": 3}', '{"event": "end", "timing": []}', "\ud800"])
def test_a_strange_line_is_passed_over(tmp_path, line):
    path = tmp_path / "flowers.h5"
    end(path, 500, 10.0)
    with (tmp_path / "flowers.log.jsonl").open("ab") as file:
        file.write(line.encode("utf-8", "surrogatepass") + b"\n")
    end(path, 1000, 10.0)
    assert images_per_second(path) == 100


def test_each_line_tells_its_event_and_when_it_was(tmp_path):
    log(tmp_path / "flowers.h5", "start", samples=3)
    (line,) = map(json.loads, (tmp_path / "flowers.log.jsonl").read_text().splitlines())
    assert line["event"] == "start" and line["samples"] == 3 and line["time"] and line["pid"]
