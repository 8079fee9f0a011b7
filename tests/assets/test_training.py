"""The built-in models can be trained on: a step of each loss reaches every part that it should teach."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from assets.tiny import perceive, runs, train_decoder, train_dit, train_vae, whole, world
from assets.tiny.speaker import stages
from wan_core.model.dit import WanDiT

GRID = (9, 4, 4)
ROWS = 2


def batch(pose: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    clean = torch.randn(ROWS, train_vae.Z, 9, 8, 8, generator=g)
    text = torch.randn(ROWS, 12, train_dit.CONFIG["text_dim"], generator=g)
    return {
        "clean": clean, "text": text, "bias": torch.zeros(ROWS, 1, 1, 12), "sigma": torch.tensor([0.9, 0.4]),
        "pose": torch.rand(ROWS, 9, pose, generator=g), "cover": torch.rand(ROWS, 9, 8, 8, generator=g) > 0.5,
        "image": torch.tensor([True, False]), "person": clean[:, :, :1],
        "audio": torch.randn(ROWS, 10, stages.HUMO_WINDOW, stages.LAYERS + 1, stages.WIDTH, generator=g),
    }  # fmt: skip


def taught(model: WanDiT, asked: train_dit.Questions, loss: Tensor, pose: Tensor) -> None:
    away, wrong = asked.loss(pose)
    (loss + away + wrong).backward()
    for part in (*model.blocks, model.patch_embedding, model.proj_out, *asked.heads.values(), asked.sketch):
        gradients = [p.grad for p in part.parameters() if p.grad is not None]
        assert gradients
        assert all(g.isfinite().all() for g in gradients)
        assert any(g.abs().max() > 0 for g in gradients)


def test_the_first_models_transformer() -> None:
    torch.manual_seed(0)
    model, data = train_dit.build(), batch(11)
    torch.nn.init.normal_(model.proj_out.weight, std=0.02)  # it begins at zero, and passes nothing back
    asked = train_dit.Questions(model, GRID, 11)
    taught(model, asked, train_dit.loss_on(model, data, asked.note), data["pose"])


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, while it compiles the norms
def test_a_decoder_is_trained_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What latents are made with stays to the bit."""
    for module in (train_decoder, train_vae):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    monkeypatch.setattr(train_decoder, "STRETCHES", ((1, 5),))
    before = train_vae.build(train_vae.Z).state_dict()
    runs.save_state(tmp_path / "vae.pt", {"step": 7, "spent": 60.0, "curve": [], "model": before})
    train_decoder.train(1e-4)  # one step
    state = runs.load_state(tmp_path / "vae.pt")
    assert state is not None
    assert (state["step"], [p.name for p in tmp_path.iterdir()]) == (8, ["vae.pt"])
    moved = {name.split(".")[0] for name, value in state["model"].items() if not torch.equal(value, before[name])}
    assert moved == {"decoder", "post_quant_conv"}
    assert all(value.isfinite().all() for value in state["model"].values())


def test_a_reader_judges_what_a_guess_looks_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once; what looks the same costs least; and the transformer learns from it."""
    monkeypatch.setattr(perceive, "RUNS", tmp_path)
    monkeypatch.setattr(perceive, "STEPS", 40)
    data = batch(11)
    data["pose"][..., -6:] = torch.eye(6)[torch.arange(ROWS)][:, None]
    reader = perceive.trained(data["clean"], data["pose"])
    monkeypatch.setattr(perceive, "STEPS", 0)  # it comes from the disk
    again = perceive.trained(data["clean"], data["pose"])
    assert all(torch.equal(a, b) for a, b in zip(reader.parameters(), again.parameters(), strict=True))
    guess = data["clean"] + 0.5 * torch.randn(data["clean"].shape, generator=torch.Generator().manual_seed(3))
    same, other = (perceive.unlike(reader, g, data["clean"], data["pose"]) for g in (data["clean"], guess))
    assert same.shape == (ROWS, 9)
    assert (other > same).all()
    model = train_dit.build()
    torch.manual_seed(1)
    plain = train_dit.loss_on(model, data, lambda _, x: x)
    torch.manual_seed(1)
    judged = train_dit.loss_on(model, data, lambda _, x: x, reader)
    assert judged > plain
    perceive.unlike(reader, guess.requires_grad_(), data["clean"], data["pose"]).sum().backward()
    assert guess.grad is not None
    assert (guess.grad.abs().amax((1, 3, 4)) > 0).all()  # every frame is told


def test_the_speakers_transformer() -> None:
    torch.manual_seed(0)
    model, data = stages.build(), batch(5)
    torch.nn.init.normal_(model.proj_out.weight, std=0.02)
    asked = train_dit.Questions(model, (10, 4, 4), 5)
    taught(model, asked, stages.loss_on(model, data, asked.note), data["pose"])


def test_a_finished_vae_begins_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "_fused_rows", whole._rows)  # nothing is compiled for one step
    torch.manual_seed(0)
    old, vae = (train_vae.build(train_vae.Z) for _ in range(2))
    vae.load_state_dict(old.state_dict())
    video = torch.rand(1, 3, 1, world.SIZE, world.SIZE) * 2 - 1
    fit, away, _ = train_vae.refinement(vae, old, video, torch.ones(1, 1, 1, world.SIZE, world.SIZE))
    assert away == 0
    fit.backward()
    assert vae.encoder.conv_in.weight.grad.abs().max() > 0
