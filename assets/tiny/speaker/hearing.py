"""The small Whisper encoder that the built-in reference model listens with.

It learns to tell, from every one of its layers, how open and how round a mouth would be at each of
its 50 states a second; HuMo reads averages of all layers.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from assets.tiny.runs import RUNS, descend, learning_rate, log, shortened
from assets.tiny.speaker import voices
from wan_core.model.audio import STATES_HZ, WHISPER_SECONDS

WIDTH, LAYERS = 64, 4  # HuMo's five tracks: four equal shares of the states, and the last
STEPS, BATCH = 800, 2


def build() -> WhisperModel:
    """A fresh model; its decoder is as small as it can be, since nothing is written down."""
    return WhisperModel(WhisperConfig(
        vocab_size=8, d_model=WIDTH, encoder_layers=LAYERS, encoder_attention_heads=2, encoder_ffn_dim=2 * WIDTH,
        decoder_layers=1, decoder_attention_heads=1, decoder_ffn_dim=8, num_mel_bins=80, max_target_positions=8,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, dropout=0.0, attention_dropout=0.0,
    ))  # fmt: skip


def train(seed: int = 0, steps: int = STEPS) -> None:
    """Train the encoder and save it under ``runs``."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model, extractor = build(), WhisperFeatureExtractor(feature_size=80)
    tellers = nn.ModuleList(nn.Linear(WIDTH, 2) for _ in range(LAYERS + 1))
    params = [*model.encoder.parameters(), *tellers.parameters()]
    solver = torch.optim.AdamW([p for p in params if p.requires_grad], lr=2e-3, weight_decay=0.01, foreach=True)
    for step in range(steps):
        mel, goal, real = _batch(extractor, rng)
        with shortened("cpu"):
            states = model.encoder(mel, output_hidden_states=True).hidden_states
        states = [state[:, : goal.shape[1]].float() for state in states]
        # the first states have seen a few hundredths of a second only, and count little
        told = [tell(state).sigmoid() for tell, state in zip(tellers, states, strict=True)]
        losses = torch.stack([((t - goal).square() * real).sum() / real.sum() for t in told])
        loss = losses[-1] + 0.2 * losses[1:-1].mean() + 0.02 * losses[0]
        loss.backward()
        descend({solver: learning_rate(2e-3, step / steps, step)}, 1.0)
        if (step + 1) % 50 == 0:
            log.info("hearing %d: openness and roundness off by %s", step + 1, losses.detach().sqrt().tolist())
    model.save_pretrained(RUNS / "audio_encoder")
    extractor.save_pretrained(RUNS / "audio_processor")


def _batch(extractor: WhisperFeatureExtractor, rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    """Mel spectrograms (B, 80, 3000), goals (B, T, 2), and what of them is sound and not padding."""
    # whole chunks mostly, since what is padded costs as much; short sounds too, as people bring them
    waves = [
        voices.talk(rng, rng.choice((WHISPER_SECONDS, WHISPER_SECONDS, rng.uniform(1.5, 8)))) for _ in range(BATCH)
    ]
    mel = extractor(waves, sampling_rate=voices.RATE, return_tensors="pt").input_features
    frames = [len(w) * STATES_HZ // voices.RATE for w in waves]
    goals = [voices.mouth(w, n, STATES_HZ) for w, n in zip(waves, frames, strict=True)]
    # roundness of what cannot be heard means nothing
    weights = [torch.stack([torch.ones(len(g)), 0.3 * g[:, 0]], 1) for g in goals]
    longest = max(frames)
    goal, real = (torch.stack([F.pad(x, (0, 0, 0, longest - len(x))) for x in xs]) for xs in (goals, weights))
    return mel, goal, real
