"""W&B: offline unless logged in, never a prompt, never a failed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock, PropertyMock
from urllib.parse import urlsplit

import pytest
import wandb
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from segdistill.engine.loggers import close, require, start, wandb_logged_in, wandb_logger
from segdistill.utils.errors import ConfigError


def test_a_key_in_the_environment_or_in_netrc_is_a_login(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    server = urlsplit(wandb.setup().settings.base_url).netloc  # where `wandb login` writes its key for
    netrc.write_text(f"machine {server} login user password secret\n")
    netrc.chmod(0o600)
    absent = str(tmp_path / "absent")
    assert wandb_logged_in({"WANDB_API_KEY": "x"})
    assert wandb_logged_in({"NETRC": str(netrc)})
    assert not wandb_logged_in({"NETRC": absent})
    assert not wandb_logged_in({"NETRC": str(netrc), "WANDB_BASE_URL": "https://wandb.example.org"})


def test_what_a_logger_needs_is_asked_before_a_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "absent"))
    require({"mode": "offline"})
    with pytest.raises(ConfigError, match=r"logger\.mode=online: needs a login"):
        require({"mode": "online"})


def test_a_wandb_run_that_cannot_be_online_is_kept_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "wrong")
    logger = wandb_logger(save_dir=str(tmp_path), project="test")
    assert logger.experiment.offline
    close([logger])
    assert "; kept offline" in caplog.text
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_a_logger_that_cannot_start_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(start(lambda: CSVLogger(str(tmp_path)), {"seed": 0}), CSVLogger)
    broken = Mock()
    type(broken).experiment = PropertyMock(side_effect=ConnectionError("no route"))
    assert start(lambda: broken, {}) is None
    assert "left out: ConnectionError: no route" in caplog.text
    assert start(lambda: CSVLogger(no_such_option=1), {}) is None  # type: ignore[call-arg]


def test_a_service_that_cannot_finish_does_not_take_the_results_along(caplog: pytest.LogCaptureFixture) -> None:
    logger = Mock(spec=WandbLogger)
    logger.experiment.finish.side_effect = ConnectionError("gone")
    close([logger])
    assert "W&B did not finish: ConnectionError: gone; upload the rest by: wandb sync" in caplog.text


def begun_with(monkeypatch: pytest.MonkeyPatch, run: MagicMock, **options: Any) -> tuple[WandbLogger, dict[str, Any]]:
    """A W&B logger of a run that nobody starts, and what it gives to `wandb.init`."""
    begin = Mock(return_value=run)
    monkeypatch.setattr(wandb, "init", begin)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    return wandb_logger(save_dir="runs", project="segdistill", **options), dict(begin.call_args.kwargs)


def test_wandb_mode_of_the_environment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    run = MagicMock(spec=wandb.Run, offline=True, disabled=False, dir="run/files")
    monkeypatch.setenv("WANDB_MODE", "offline")
    _, given = begun_with(monkeypatch, run)
    assert given["mode"] is None  # wandb follows the environment
    assert given["settings"].console != "off"  # nothing is sent


def online_run(monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[WandbLogger, dict[str, Any]]:
    """What a W&B logger is, and what it gives to `wandb.init`, where there is a login and a network."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = MagicMock(spec=wandb.Run, offline=False, disabled=False, entity="lab", project="segdistill", url="URL")
    run.settings = wandb.Settings(base_url="https://wandb.example.org")
    return begun_with(monkeypatch, run, **options)


def test_a_login_of_another_project_sends_numbers_alone_and_says_where(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        logger, given = online_run(monkeypatch)
    settings = given["settings"]
    assert (settings.console, settings.disable_code, settings.disable_git) == ("off", True, True)
    assert vars(logger)["upload"] is False
    (line,) = caplog.messages
    assert line == (
        "W&B: sends metrics, result tables, configuration, machine information to lab/segdistill on "
        "https://wandb.example.org, URL; images, masks, checkpoints and ONNX files stay here "
        "(logger.wandb.upload=true sends them)"
    )


def test_uploading_is_asked_for_and_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        logger, given = online_run(monkeypatch, upload=True)
    assert not given["settings"].disable_git
    assert vars(logger)["upload"] is True
    assert "sends metrics" in caplog.text
    assert "images, masks, checkpoints and ONNX files to lab/segdistill" in caplog.text


def test_an_offline_run_says_what_syncing_it_would_send(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with caplog.at_level("INFO"):
        logger = wandb_logger(save_dir=str(tmp_path), mode="offline", project="test")
    close([logger])
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert f"offline, nothing is sent; `wandb sync {folder}` would send what it holds: metrics" in caplog.text
    assert "images and masks" in caplog.text


@pytest.mark.parametrize("option", ["save_code", "sync_tensorboard"])
def test_no_other_wandb_option_uploads(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    with pytest.raises(ConfigError, match=rf"logger\.wandb\.{option}=True: needs logger.wandb.upload=true"):
        online_run(monkeypatch, **{option: True})
