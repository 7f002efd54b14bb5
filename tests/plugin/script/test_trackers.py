"""Before launch no run of a tracker begins, and nothing is pushed to a hub."""

from __future__ import annotations

import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from trainfare.user_process import ProcessLimits, UserProcess

SCRIPT = """
import os, sys
import mlflow, torch, wandb
from huggingface_hub import HfApi, create_repo, upload_file
from huggingface_hub.utils import disable_progress_bars
server = sys.argv[1]
run = wandb.init(project="p", mode="online", dir=os.getcwd())
run.log({"loss": 1.0})
assert run.disabled
mlflow.set_tracking_uri(server)
assert not mlflow.get_tracking_uri().startswith("http")
print(create_repo("me/model", token="x").repo_id)
upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="me/model", token="x")
HfApi(endpoint=server, token="x").create_commit("me/model", [], commit_message="m")
HfApi(endpoint=server, token="x").upload_folder(repo_id="me/model", folder_path=".")
model = torch.nn.Linear(4, 2)
by = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(50):
    model(torch.ones(4, 4)).sum().backward()
    by.step()
    by.zero_grad()
"""


@pytest.fixture
def server() -> Generator[tuple[str, list[str]], None, None]:
    """A server that notes what it is asked."""
    asked: list[str] = []

    class Noting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(500)
            self.end_headers()

        do_GET = do_PUT = do_DELETE = do_POST

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Noting) as noting:
        thread = threading.Thread(target=noting.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{noting.server_port}", asked
        noting.shutdown()
        thread.join()


def test_no_run_and_no_push_begins(
    server: tuple[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """W&B whose mode the script sets, a tracking server of MLflow, functions and methods of the hub's client."""
    for package in ("mlflow", "wandb", "huggingface_hub"):
        pytest.importorskip(package)
    address, asked = server
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("WANDB_BASE_URL", address)
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    with UserProcess(f"train.py -- {address}", ProcessLimits()) as process:
        profile = process.profile()
    assert profile.operations
    assert "me/model" in capsys.readouterr().err
    assert asked == []
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]
