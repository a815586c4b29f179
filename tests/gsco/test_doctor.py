"""The doctor finds what is wrong with a server, and says what to do."""

import itertools
import json
import urllib.request
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from fake_server import DEAD, Server, serving

from gsco.cli import main
from gsco.doctor import ODD, Check, examine


def image_of(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    parts = [p for p in content if isinstance(p, dict) and p["type"] == "image_url"]
    return str(parts[0]["image_url"]["url"]) if parts else ""


def looking(body: dict[str, Any]) -> Mapping[str, float]:
    """Answer by the bytes of the image."""
    share = zlib.crc32(image_of(body).encode()) % 89 / 100
    return odd(share + 0.05, 0.9 - share, 0.05)


def odd(*shares: float) -> Mapping[str, float]:
    return dict(zip(ODD, shares, strict=True))


def failed(server: Server) -> dict[str, Check]:
    return {check.name: check for check in examine(server.url) if not check.ok}


def test_a_healthy_server_passes_every_check() -> None:
    with serving(looking) as server:
        checks = examine(server.url)
    assert len(checks) == 9
    assert all(check.ok and not check.remedy for check in checks)
    assert checks[0].found == "offers tiny-vlm; context of unknown tokens"


def test_a_server_that_ignores_choices_is_found() -> None:
    with serving(looking, enforces=False) as server:
        found = failed(server)
    assert "it said 'Certainly!" in found["keeps to choices"].found
    assert "`structured_outputs`" in found["keeps to choices"].remedy


def test_missing_log_probabilities_are_found() -> None:
    with serving(looking, logprobs=False) as server:
        found = failed(server)
    assert "processed_logprobs" in found["probabilities after the constraint"].remedy


def test_probabilities_from_before_the_constraint_are_found() -> None:
    with serving(lambda body: {"zq7": 0.2, "xj4": 0.1, "Certainly": 0.7}) as server:
        found = failed(server)
    assert "what is allowed has 0.300" in found["probabilities after the constraint"].found


def test_a_model_that_does_not_see_the_image_is_found() -> None:
    with serving(lambda body: odd(0.5, 0.3, 0.2)) as server:
        assert set(failed(server)) == {"looks at the image"}


def test_noise_is_not_taken_for_sight() -> None:
    shares = itertools.cycle((0.5, 0.501))

    def noisy(body: dict[str, Any]) -> Mapping[str, float]:
        share = next(shares)
        return odd(share, 0.9 - share, 0.1)

    with serving(noisy) as server:
        assert set(failed(server)) == {"looks at the image"}


def test_a_model_that_takes_text_only_is_found() -> None:
    with serving(looking) as server:
        server.refuses = lambda body: 400 if image_of(body) else 200
        found = failed(server)
    assert "vision-language model" in found["looks at the image"].remedy
    assert "refused: 400" in found["looks at the image"].found


def test_a_prefix_cache_that_changes_answers_is_found() -> None:
    shares = itertools.cycle((0.5, 0.4))

    def drifting(body: dict[str, Any]) -> Mapping[str, float]:
        share = next(shares)
        return odd(share, 0.9 - share, 0.1)

    with serving(drifting) as server:
        found = failed(server)
    assert found["prefix cache changes nothing"].found == "a probability moves by at most 0.1"


def test_a_server_that_fetches_foreign_images_is_found() -> None:
    def fetching(body: dict[str, Any]) -> Mapping[str, float]:
        if image_of(body).startswith("http"):
            with suppress(OSError):
                urllib.request.urlopen(image_of(body), timeout=5)
        return looking(body)

    with serving(fetching) as server:
        assert set(failed(server)) == {"fetches nothing"}


def test_a_dead_server_and_a_wrong_model_end_the_examination() -> None:
    (check,) = examine(DEAD)
    assert not check.ok
    assert "gsco serve MODEL" in check.remedy
    with serving(looking) as server:
        (check,) = examine(server.url, model="meddr")
    assert "offered: tiny-vlm" in check.remedy


def test_a_page_that_is_no_server_ends_the_examination() -> None:
    with serving(looking) as server:
        server.page = "<html>Welcome</html>"
        (check,) = examine(server.url)
    assert not check.ok
    assert "with /v1 at its end" in check.remedy


def test_a_server_that_tells_of_few_options_is_found() -> None:
    with serving(looking) as server:
        server.refuses = lambda body: 400 if body["top_logprobs"] > 20 else 200
        found = failed(server)
    assert set(found) == {"tells of many options"}
    assert "--max-logprobs -1" in found["tells of many options"].remedy


@pytest.mark.parametrize(("enforces", "code"), [(True, None), (False, 2)])
def test_the_command_fails_if_a_check_does(
    enforces: bool,
    code: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(looking, enforces=enforces) as server:
        monkeypatch.setattr("sys.argv", ["gsco", "doctor", server.url, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert (ended.value.code or None) == code
    shown = json.loads(capsys.readouterr().out)
    assert shown["version"] == 1
    assert len(shown["checks"]) == 9
