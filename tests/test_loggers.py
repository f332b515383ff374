"""W&B: offline unless logged in, never a prompt, never a failed run."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock, PropertyMock

import pytest
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from segdistill.loggers import close, start, wandb_logged_in, wandb_options


def test_a_key_in_the_environment_or_in_netrc_is_a_login(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    netrc.chmod(0o600)
    absent = str(tmp_path / "absent")
    assert wandb_logged_in({"WANDB_API_KEY": "x"})
    assert wandb_logged_in({"NETRC": str(netrc)})
    assert not wandb_logged_in({"NETRC": absent})
    assert not wandb_logged_in({"NETRC": str(netrc), "WANDB_BASE_URL": "https://wandb.example.org"})


def test_offline_is_decided_only_where_it_is_left_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "absent"))
    assert wandb_options({"offline": None})["offline"] is True
    assert wandb_options({"offline": False})["offline"] is False
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert wandb_options({"offline": None})["offline"] is False


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
    assert "W&B did not finish: ConnectionError: gone" in caplog.text
