"""GSCo as tools of an agent: a real client starts `gsco mcp` and talks to it."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from command import run
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent

from gsco.agent import GSCo
from gsco.case import NOTICE, Case
from gsco.errors import UsageError
from gsco.service.bodies import DiagnosisBody
from gsco.service.mcp import allowed

Printed = pytest.CaptureFixture[str]
TASK = "pneumonia-cxr"


@pytest.fixture
def images(tmp_path: Path, picture: Callable[..., bytes]) -> Path:
    """A folder that may be read, with links out of it, beside one that may not."""
    folder, secret = tmp_path / "images", tmp_path / "images-secret"
    folder.mkdir()
    secret.mkdir()
    (folder / "scan.png").write_bytes(picture(1))
    (folder / "text.png").write_text("no image")
    (secret / "other.png").write_bytes(picture(2))
    (folder / "link.png").symlink_to(secret / "other.png")
    (folder / "inside.png").symlink_to(folder / "scan.png")
    (folder / "round.png").symlink_to(folder / "round.png")
    return folder


@pytest.mark.parametrize("name", ["scan.png", "inside.png", "./x/../scan.png"])
def test_a_file_below_an_allowed_folder_is_read(images: Path, name: str) -> None:
    assert allowed(f"{images}/{name}", [images]) == images.resolve() / "scan.png"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("link.png", "lies outside the folders"),
        ("../images-secret/other.png", "lies outside the folders"),
        ("../images-secret/missing.png", "lies outside the folders"),
        ("/etc/passwd", "lies outside the folders"),
        ("", "There is no file"),
        ("missing.png", "There is no file"),
        ("round.png", "is no path"),
        ("null\0.png", "is no path"),
    ],
)
def test_any_other_is_refused_and_what_lies_elsewhere_is_not_told(
    images: Path, name: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        allowed(str(images / name), [images])


def test_a_folder_that_is_none_and_a_missing_extra_get_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    assert run(monkeypatch, "mcp", "--allow", "nowhere") == 2
    assert "'nowhere' is no folder." in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert run(monkeypatch, "mcp") == 2
    assert 'Run `pip install "gsco[mcp]"`.' in capsys.readouterr().err


def talk(images: Path, what: Callable[[Client], Awaitable[None]]) -> None:
    """Start the server in a process of its own and talk to it."""
    started = StdioServerParameters(
        command=sys.executable,
        args=["-m", "gsco", "mcp", "--allow", str(images)],
        env=dict(os.environ),
        cwd=images,
    )

    async def session() -> None:
        async with Client(started) as client:
            await what(client)

    asyncio.run(session())


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.mark.slow
def test_an_agent_gets_the_diagnosis_that_gsco_gives(images: Path, starter_agent: GSCo) -> None:
    async def conversation(client: Client) -> None:
        assert NOTICE in (client.instructions or "")
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"diagnose", "neighbours", "specialists", "tasks"}
        assert all(
            tool.output_schema and NOTICE in str(tool.description) for tool in tools.values()
        )

        named = {"image": str(images / "scan.png"), "task": TASK}
        result = await client.call_tool("diagnose", {**named, "system": "stack"})
        found = DiagnosisBody.model_validate(result.structured_content)
        direct = starter_agent.diagnose(Case(images=(images / "scan.png",), task=TASK), "stack")
        assert found.probabilities == pytest.approx(direct.probabilities)
        assert (found.case, found.answer, found.notice) == (direct.case, direct.answer, NOTICE)

        # A relative path is one from the folder where the server was started.
        result = await client.call_tool("neighbours", {**named, "image": "scan.png"})
        recalled = result.structured_content
        assert recalled is not None
        assert [n["id"] for n in recalled["neighbours"]] == [n.id for n in direct.neighbours]
        assert recalled["notice"] == NOTICE

        for name, of in (("specialists", {"task": TASK}), ("tasks", {})):
            listed = (await client.call_tool(name, of)).structured_content
            assert listed is not None
            assert listed["notice"] == NOTICE
            assert listed[name]

    talk(images, conversation)


@pytest.mark.slow
def test_an_agent_that_errs_is_told_so_in_a_sentence(images: Path) -> None:
    wrong = [
        ({"image": "link.png", "task": TASK}, "lies outside the folders that may be read"),
        ({"image": "text.png", "task": TASK}, "'text.png' is not an image that can be read"),
        ({"image": "scan.png", "task": "pneumonia"}, "Did you mean 'pneumonia-cxr'?"),
        ({"image": "scan.png", "task": TASK, "system": "stak"}, "Input should be 'generalist'"),
        ({"task": TASK}, "Field required"),
    ]

    async def conversation(client: Client) -> None:
        for arguments, says in wrong:
            result = await client.call_tool("diagnose", {"system": "stack", **arguments})
            assert result.is_error
            assert says in text_of(result)
            assert "Traceback" not in text_of(result)
        # It goes on after all that.
        assert not (await client.call_tool("tasks", {})).is_error

    talk(images, conversation)
