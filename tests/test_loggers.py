"""W&B: offline unless logged in, never a prompt, never a failed run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from unittest.mock import Mock, PropertyMock
from urllib.parse import urlsplit

import pytest
import wandb
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from segdistill.errors import ConfigError
from segdistill.loggers import close, require, start, wandb_logged_in, wandb_logger


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
    board = {"tensorboard": {"_target_": "pytorch_lightning.loggers.TensorBoardLogger"}}
    require({"mode": "offline", **board})
    with pytest.raises(ConfigError, match=r"logger\.mode=online: needs a login"):
        require({"mode": "online"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs a package: pip install tensorboard"):
        require(board)


def test_a_wandb_run_that_cannot_be_online_is_kept_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "wrong")
    logger = wandb_logger(save_dir=str(tmp_path), project="test")
    assert logger.experiment.offline
    close([logger])
    assert "kept offline, upload it by: wandb sync" in caplog.text
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


def test_the_users_own_mode_of_wandb_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = wandb_logger(save_dir=str(tmp_path), project="test")
    assert logger.experiment.offline
    close([logger])
