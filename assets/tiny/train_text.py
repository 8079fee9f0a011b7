"""Stage two: a tokenizer for the world's three languages, and a text encoder that reads captions.

The encoder learns to name a caption's attributes from every one of its tokens. What the video model
then attends to says the same thing in every language and word order, so it can spend all its
training on pictures. Fillers, typing errors and foreign words are part of the diet: they should
change nothing.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from assets.tiny import world
from assets.tiny.captions import ATTRIBUTES, LANGUAGES, Said, caption
from assets.tiny.runs import RUNS, descend, learning_rate, log, shortened

TEXT_DIM = 128
VOCABULARY = 1800
STEPS = 3000
BATCH = 64


@dataclass(frozen=True)
class Speech:
    """What is said about a world.

    Attributes:
        attributes: what a caption may name, and the values in the order they are taught.
        draw: draws a scene, from the held-out ones if told so.
        caption: describes one; see :func:`assets.tiny.captions.caption`.
    """

    attributes: dict[str, tuple[str, ...]]
    draw: Callable[[random.Random, bool], Any]
    caption: Callable[..., tuple[str, Said]]


FIRST = Speech(ATTRIBUTES, lambda rng, held: world.sample_scene(rng, held=held), caption)


def train_tokenizer(seed: int, speech: Speech) -> PreTrainedTokenizerFast:
    """A unigram tokenizer over captions, with every ASCII character and kana in its alphabet."""
    rng = random.Random(seed)
    corpus = [speech.caption(speech.draw(rng, False), rng, LANGUAGES[i % 3])[0] for i in range(30_000)]
    kana = [chr(c) for c in range(0x3041, 0x30FF)]
    corpus += list(string.printable.strip()) * 3 + kana * 3
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(),
    ])  # fmt: skip
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(corpus, trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>",
        max_piece_length=12, show_progress=False,
    ))  # fmt: skip
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=512,
    )  # fmt: skip


def build_encoder(vocabulary: int) -> UMT5EncoderModel:
    """A fresh encoder of the same class as the real one."""
    return UMT5EncoderModel(UMT5Config(
        vocab_size=vocabulary, d_model=TEXT_DIM, d_kv=32, d_ff=256, num_layers=3, num_heads=4,
        relative_attention_num_buckets=32, relative_attention_max_distance=64, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1, is_encoder_decoder=False,
        tie_word_embeddings=True,
    ))  # fmt: skip


class Readers(nn.Module):
    """One linear classifier per attribute, read off every token."""

    def __init__(self, attributes: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({n: nn.Linear(TEXT_DIM, len(v)) for n, v in attributes.items()})

    def loss(self, tokens: Tensor, mask: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Cross-entropy over real tokens, and how often all attributes are right by their mean."""
        total = tokens.new_zeros(())
        right = torch.ones(len(tokens), dtype=torch.bool)
        share = mask / mask.sum(1, keepdim=True)
        for name, head in self.heads.items():
            logits = head(tokens).float()  # (B, L, K)
            goal = targets[name]
            per_token = F.cross_entropy(logits.transpose(1, 2), goal[:, None].expand(mask.shape), reduction="none")
            total = total + (per_token * share).sum(1).mean()
            vote = (logits.log_softmax(-1) * share[..., None]).sum(1).argmax(-1)
            right &= vote == goal
        return total, right.float().mean()


def junk(rng: random.Random) -> str:
    """A word that means nothing here."""
    letters = rng.choice((string.ascii_lowercase, "あいうえおかきくけこさしすせそ", "的是不了人我在有他这"))
    return "".join(rng.choice(letters) for _ in range(rng.randint(2, 8)))


def example(rng: random.Random, index: int, speech: Speech = FIRST, held: bool = False) -> tuple[str, Said]:
    """One training caption; some are spoiled with junk words, a few are nothing but junk."""
    if rng.random() < 0.04:
        words = [junk(rng) for _ in range(rng.randint(0, 5))]
        return " ".join(words), dict.fromkeys(speech.attributes, "")
    forget = rng.choice((0.0, 0.06, 0.4))
    text, said = speech.caption(speech.draw(rng, held), rng, LANGUAGES[index % 3], forget=forget)
    if rng.random() < 0.15:
        words = text.split(" ")
        words.insert(rng.randrange(len(words) + 1), junk(rng))
        text = " ".join(words)
    return text, said


def _batch(
    tokenizer: PreTrainedTokenizerFast, rng: random.Random, speech: Speech, held: bool = False
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    texts, saids = zip(*(example(rng, i, speech, held) for i in range(BATCH)), strict=True)
    enc = tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")
    targets = {n: torch.tensor([v.index(s[n]) for s in saids]) for n, v in speech.attributes.items()}
    return enc.input_ids, enc.attention_mask, targets


def train(seed: int = 0, steps: int = STEPS, speech: Speech = FIRST) -> None:
    """Train tokenizer and encoder and save both under ``runs``; a few minutes on two cores."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = train_tokenizer(seed, speech)
    encoder, readers = build_encoder(len(tokenizer)), Readers(speech.attributes)
    params = [*encoder.parameters(), *readers.parameters()]
    optimizer = torch.optim.AdamW(params, lr=2e-3, weight_decay=0.01, foreach=True)
    curve = []
    for step in range(steps):
        ids, mask, targets = _batch(tokenizer, rng, speech)
        with shortened("cpu"):
            tokens = encoder(ids, mask).last_hidden_state
        loss, right = readers.loss(tokens.float(), mask, targets)
        loss.backward()
        descend({optimizer: learning_rate(2e-3, step / steps, step)}, 1.0)
        if (step + 1) % 100 == 0:
            log.info("text %d: loss %.4f, all attributes right %.3f", step + 1, float(loss), float(right))
            curve.append([step + 1, float(loss), float(right)])
    with torch.no_grad():
        held = [readers.loss(encoder(i, m).last_hidden_state, m, t)[1]
                for i, m, t in (_batch(tokenizer, rng, speech, held=True) for _ in range(20))]  # fmt: skip
    figure = float(torch.stack(held).mean())
    log.info("text: on held-out combinations all attributes right %.4f", figure)
    tokenizer.save_pretrained(RUNS / "tokenizer")
    encoder.save_pretrained(RUNS / "text_encoder")
    torch.save({"curve": curve, "held": figure}, RUNS / "text.pt")
